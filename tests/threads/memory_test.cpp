// What L1 has in memory, read and marked while another processor of its writes there.
#include <array>
#include <barrier>
#include <optional>

#include "tests/nested/ept12.hpp"
#include "tests/threads/processors.hpp"
#include "x86/paging.hpp"

namespace flatback::threads_test::memory_test {
namespace {

constexpr unsigned processors = 3;

// Two good values of an entry in turn, and none. What the engine may add to it is `flags`; an entry that has
// more, or flags on another entry than the one they were meant for, was written by an engine that had read an
// older one.
class ChangingEntry {
public:
    ChangingEntry(SharedL1Pages& memory, std::uint64_t where, std::array<std::uint64_t, 3> values,
                  std::uint64_t flags)
        : memory_(memory), where_(where), values_(values), flags_(flags) {
        memory_.write(where_, values_[0]);
    }
    // Quick, as all depends on how often it comes between a read of the engine's and its write.
    void change(unsigned round) {
        const std::uint64_t written = values_[round % 3];
        const std::uint64_t found = memory_.exchange(where_, values_[(round + 1) % 3]);
        const std::uint64_t may_be_set = written == 0 ? 0 : flags_;
        if (((found ^ written) & ~may_be_set) != 0) wrong_ = found;
        if ((found & flags_) != 0) ++marked_;
    }
    void expect_right() const {
        EXPECT_EQ(wrong_, 0U) << "an entry as nobody wrote it";
        EXPECT_GT(marked_, 0U) << "never used: nothing was tried";
    }

private:
    SharedL1Pages& memory_;
    std::uint64_t where_;
    std::array<std::uint64_t, 3> values_;
    std::uint64_t flags_;
    std::uint64_t wrong_ = 0;
    std::uint64_t marked_ = 0;
};

TEST(L1Memory, Ept12ThatAnotherProcessorEditsIsFilledAsItOnceWas) {
    SharedL1Pages memory;
    VirtualCpu maker{{.shared = &memory}};
    Ept12 ept{maker};
    constexpr std::uint64_t one = 0x1000'0000;
    constexpr std::uint64_t two = 0x1100'0000;
    constexpr std::uint64_t page = 0x5000;
    ept.map(page, one);
    ept.map(0x8000, two);
    const std::uint64_t leaf = ept.root() + 3 * 0x1000 + 5 * 8;
    ASSERT_EQ(memory.read<std::uint64_t>(leaf), ept.entry(page));
    constexpr std::uint64_t flags = vmx::ept_entry::accessed | vmx::ept_entry::dirty;
    ChangingEntry entry{memory, leaf, {one | 7 | Ept12::write_back, two | 7 | Ept12::write_back, 0}, flags};

    std::optional<Writer> writer{std::in_place, [&](unsigned round) { entry.change(round); }};
    on_processors(processors, [&](unsigned cpu) {
        LedgerCpu l1{{.shared = &memory, .physical_cpu = cpu}};
        l1.use_ept(ept.eptp(true));
        l1.use_vpid(1);
        for (unsigned round = 0; round < 1000; ++round) {
            l1.enter();
            const Outcome outcome = l1.l2_touches(page, round % 2 == 0 ? 1 : 2);
            if (outcome == l2_runs) {
                const auto found = l1.ept02_leaf(page);
                ASSERT_TRUE(found);
                EXPECT_TRUE(found->host == FakePort::host_of(one) || found->host == FakePort::host_of(two))
                    << std::hex << found->host;
                l1.leave();
            } else {
                EXPECT_EQ(outcome, l1_sees(ExitReason::ept_violation));
            }
            ASSERT_EQ(l1.invept(1, ept.eptp(true)), vm_succeed);
        }
    });
    writer.reset();
    entry.expect_right();
}

TEST(L1Memory, PageTablesThatAnotherProcessorEditsAreMarkedAsTheyAre) {
    SharedL1Pages memory;
    for (unsigned level = 0; level < 3; ++level) {
        memory.write<std::uint64_t>(shared::page_tables + level * 0x1000,
                                    (shared::page_tables + (level + 1) * 0x1000) | 0x23);
    }
    const std::uint64_t level1 = shared::page_tables + 3 * 0x1000;
    const std::uint64_t plain = 0x3;  // present and writable, never used
    // The operand names one of two VMCS regions, by the page that is mapped.
    constexpr std::uint64_t linear = 0x7000;
    const std::array<std::uint64_t, 2> regions{layout::vmcs_region(shared::first_vmcs),
                                               layout::vmcs_region(shared::first_vmcs + 1)};
    for (unsigned n = 0; n < 2; ++n) memory.write(shared::operands + n * 0x1000, regions.at(n));
    ChangingEntry entry{memory,
                        level1 + 7 * 8,
                        {shared::operands | plain, (shared::operands + 0x1000) | plain, 0},
                        x86::page_entry::accessed | x86::page_entry::dirty};

    std::optional<Writer> writer{std::in_place, [&](unsigned round) { entry.change(round); }};
    on_processors(processors, [&](unsigned cpu) {
        VirtualCpu l1{{.shared = &memory, .physical_cpu = cpu}};
        l1.enter_vmx_operation();
        for (const std::uint64_t region : regions) {
            l1.port.memory.write(region, nested::vmcs12_revision);
        }
        l1.vmcs01().set(field::guest_cr3, shared::page_tables);
        unsigned read = 0;
        for (unsigned round = 0; read < 10'000; ++round) {
            l1.port.registers.at(3) = linear;
            const Outcome outcome = l1.execute(ExitReason::vmptrld, memory_operand(3));
            if (outcome.kind == Outcome::Kind::faulted) {
                EXPECT_EQ(outcome, page_fault(0));
                l1.vmcs01().set(field::guest_rip, 0xffff'8000'0020'0000);
                continue;
            }
            ASSERT_EQ(outcome, vm_succeed);
            ++read;
        }
    });
    writer.reset();
    entry.expect_right();
}

// MSR bitmap, I/O bitmaps and MSR list: L1 sees an exit or does not, as one of the two bits was.
TEST(L1Memory, BitmapsAndListsAreReadWhileTheyAreWritten) {
    SharedL1Pages memory;
    constexpr std::uint32_t msr = x86::msr::ia32_lstar;
    constexpr std::uint64_t msr_word = shared::msr_bitmap + 1024 + (msr & 0x1fff) / 64 * 8;
    constexpr std::uint64_t msr_bit = 1ULL << (msr & 63);
    constexpr std::uint16_t port = 0x4d0;
    constexpr std::uint64_t io_word = shared::io_bitmaps + port / 64 * 8;
    constexpr std::uint64_t io_bit = 1ULL << port % 64;
    memory.write<std::uint64_t>(shared::msr_list, x86::msr::ia32_star);

    std::optional<Writer> writer{std::in_place, [&](unsigned round) {
                                     memory.write(msr_word, round % 2 == 0 ? msr_bit : 0);
                                     memory.write(io_word, round % 3 == 0 ? io_bit : 0);
                                     memory.write<std::uint64_t>(shared::msr_list + 8, round);
                                     // Now and then an MSR that may not be loaded.
                                     memory.write<std::uint64_t>(shared::msr_list,
                                                                 round % 64 == 63 ? 0x800 : 0xc000'0081);
                                 }};
    std::barrier writer_ends{processors, [&]() noexcept { writer.reset(); }};
    on_processors(processors, [&](unsigned cpu) {
        // The host keeps the neighbour of L1's port, so that the bitmaps are merged.
        LedgerCpu l1{{.kept_ports = {port + 1}, .shared = &memory, .physical_cpu = cpu}};
        l1.raise(field::primary_processor_based_vm_execution_controls,
                 vmx::primary::use_msr_bitmaps | vmx::primary::use_io_bitmaps);
        l1.write(field::address_of_msr_bitmaps, shared::msr_bitmap);
        l1.write(field::address_of_io_bitmap_a, shared::io_bitmaps);
        l1.write(field::address_of_io_bitmap_b, shared::io_bitmaps + 0x1000);
        l1.write(field::vm_entry_msr_load_address, shared::msr_list);
        l1.write(field::vm_entry_msr_load_count, 1);
        bool launched = false;
        for (unsigned round = 0; round < 300; ++round) {
            const Outcome entered = launched ? l1.vmresume() : l1.vmlaunch();
            if (entered != l2_runs) {
                EXPECT_EQ(entered, l1_sees(ExitReason::entry_failure_msr_loading));
                continue;
            }
            launched = true;
            // What the processor would have looked at has L0's bits, whatever L1's have.
            FakeVmcs& vmcs02 = l1.vmcs02();
            const auto* io = l1.port.page(x86::Hpa{vmcs02.get(field::address_of_io_bitmap_a)});
            EXPECT_NE(io[(port + 1) / 64] & 1ULL << (port + 1) % 64, 0U);
            EXPECT_EQ(io[port / 64] & ~(io_bit | io_bit << 1), 0U);
            const auto* msrs = l1.port.page(x86::Hpa{vmcs02.get(field::address_of_msr_bitmaps)});
            EXPECT_EQ(msrs[(1024 + (msr & 0x1fff) / 64 * 8) / 8] & ~msr_bit, 0U);
            // RDMSR exits whatever L1 wants now: it exited by what the merged bitmap had.
            const Outcome outcome = l1.l2_exits({.reason = ExitReason::rdmsr, .instruction_length = 2});
            EXPECT_TRUE(outcome == l2_runs || outcome == l1_sees(ExitReason::rdmsr)) << outcome.number;
            if (outcome == l2_runs) l1.leave();
        }
        writer_ends.arrive_and_wait();
        if (cpu != 0) return;
        // Then it is as memory has it now.
        memory.write<std::uint32_t>(shared::msr_list, x86::msr::ia32_star);
        for (const bool wants : {false, true}) {
            memory.write(msr_word, wants ? msr_bit : 0);
            ASSERT_EQ(launched ? l1.vmresume() : l1.vmlaunch(), l2_runs);
            launched = true;
            const auto* msrs = l1.port.page(x86::Hpa{l1.vmcs02().get(field::address_of_msr_bitmaps)});
            EXPECT_EQ(msrs[(1024 + (msr & 0x1fff) / 64 * 8) / 8], wants ? msr_bit : 0);
            l1.leave();
        }
    });
}

}  // namespace
}  // namespace flatback::threads_test::memory_test
