// VMCSs of one L1 on several of its processors: handed from one to another as the SDM says (3C 25.11.1), and
// against it.
#include <array>
#include <condition_variable>
#include <mutex>

#include "tests/threads/processors.hpp"

namespace flatback::threads_test::vmcs_test {
namespace {

// Whose turn it is.
class Baton {
public:
    void wait_for(unsigned cpu) {
        std::unique_lock lock{mutex_};
        changed_.wait(lock, [&] { return at_ == cpu; });
    }
    void pass_to(unsigned cpu) {
        {
            const std::lock_guard lock{mutex_};
            at_ = cpu;
        }
        changed_.notify_all();
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    unsigned at_ = 0;
};

constexpr unsigned moving = shared::first_vmcs;
constexpr std::uint64_t region = layout::vmcs_region(moving);
constexpr std::uint16_t vpid = 7;

// As KVM does it: VMCLEAR where it ran, VMPTRLD where it will run, and there an INVVPID of its VPID, whose
// tag may have what an earlier stay left.
TEST(VmcsOnProcessors, AGuestThatMovesIsFlushedOnceAMoveAndNeverWhereItStays) {
    SharedL1Pages memory;
    Baton baton;
    constexpr unsigned stays = 3;
    on_processors(2, [&](unsigned cpu) {
        LedgerCpu l1{{.shared = &memory, .physical_cpu = cpu}};
        // A neighbour that never moves: a move is none of its business.
        const std::uint16_t neighbour = l1.run(1);
        for (unsigned move = 0; move < 20; ++move) {
            baton.wait_for(cpu);
            if (move == 0 && cpu == 0) {
                l1.make_vmcs(moving);
                l1.use_vpid(vpid);
            } else {
                ASSERT_EQ(l1.vmptrld(region), vm_succeed);
            }
            EXPECT_EQ(l1.read(field::virtual_processor_identifier), vpid);
            ASSERT_EQ(l1.invvpid(1, vpid), vm_succeed);
            l1.forget_flushes();
            ASSERT_EQ(l1.vmlaunch(), l2_runs) << "VMCLEAR left it clear";
            const std::uint16_t tag = l1.l2_tag();
            EXPECT_EQ(l1.invvpids(), Flushes{whole_tag(tag, cpu)}) << "move " << move;
            l1.leave();
            l1.forget_flushes();
            for (unsigned stay = 0; stay < stays; ++stay) {
                ASSERT_EQ(l1.vmresume(), l2_runs);
                l1.leave();
            }
            EXPECT_EQ(l1.invvpids(), Flushes{});
            ASSERT_EQ(l1.vmclear(region), vm_succeed);
            ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
            l1.forget_flushes();
            ASSERT_EQ(l1.vmresume(), l2_runs);
            EXPECT_EQ(l1.l2_tag(), neighbour);
            EXPECT_EQ(l1.invvpids(), Flushes{});
            l1.leave();
            baton.pass_to(1 - cpu);
        }
    });
}

// Against SDM 3C 25.11.1: active on all of them at once, entered, cleared and written to as memory beside.
// What becomes of the guest is L1's own affair; no vmcs02 may hold what it must not (VirtualCpu looks at
// each), and nobody's other VMCS suffers.
TEST(VmcsOnProcessors, OneThatIsActiveOnSeveralHarmsNobodyElse) {
    SharedL1Pages memory;
    Writer writer{[&](unsigned round) {
        const std::uint64_t where = region + 16 + round * 8ULL % 0x600;
        memory.write<std::uint64_t>(where, round * 0x9e37'79b9'7f4a'7c15ULL);
        memory.write<std::uint32_t>(region + 8, round & 1);
    }};
    on_processors(3, [&](unsigned cpu) {
        LedgerCpu l1{{.shared = &memory, .physical_cpu = cpu}};
        l1.make_vmcs(moving);
        for (unsigned round = 0; round < 100; ++round) {
            ASSERT_EQ(l1.vmptrld(region), vm_succeed);
            const Outcome outcome = round % 2 == 0 ? l1.vmlaunch() : l1.vmresume();
            if (outcome == l2_runs) l1.l2_executes_cpuid();
            if (!l1.in_l2() && round % 3 == 0) {
                ASSERT_EQ(l1.vmclear(region), vm_succeed);
            }
            if (l1.in_l2()) l1.l2_exits({.reason = ExitReason::triple_fault});
            ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
            EXPECT_EQ(l1.read(field::guest_rip), 0xffff'8000'0040'0000);
        }
    });
}

}  // namespace
}  // namespace flatback::threads_test::vmcs_test
