// NMIs on the machine, by the SDM: what blocks them, what an IRET ends, exits, virtual NMIs.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "machine/program/bare_world.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"

namespace flatback::machine::nmi_test {
namespace {

namespace field = vmx::field;

constexpr std::uint64_t frame = layout::scratch(7);
constexpr std::uint64_t vmcs = layout::vmcs_region(0);
constexpr std::uint64_t page_a = 0x4000'0000;
constexpr std::uint64_t pin_default1 = 0x16;
constexpr std::uint64_t nmis_exit = pin_default1 | vmx::pin::nmi_exiting;
constexpr std::uint64_t virtual_nmis = nmis_exit | vmx::pin::virtual_nmis;

class Nmi : public testing::Test {
protected:
    Nmi() : runner_(world_) {}

    Observation run(const Scenario& say) { return runner_.run(say.program()).back(); }
    [[nodiscard]] std::uint32_t blocking() { return world_.registers(0, 0).interruptibility; }
    /// L2 runs, with these pin-based controls.
    void launch(std::uint64_t pin, std::uint64_t interruptibility = 0, std::uint64_t event = 0) {
        Scenario say;
        say.edit().map(1, page_a, layout::data_page(0)).l1().vmxon().prepare(vmcs, {.vpid = 1, .tables = 1});
        say.vmwrite(field::pin_based_vm_execution_controls, pin);
        say.vmwrite(field::guest_interruptibility_state, interruptibility);
        say.vmwrite(field::vm_entry_interruption_information, event).vmlaunch();
        ASSERT_EQ(run(say).status, Observation::Status::entry);
    }
    std::uint64_t read(auto what) {
        Scenario say;
        return run(say.l1().vmread(what)).value;
    }

    BareWorld world_;
    Runner runner_;
};

TEST_F(Nmi, IsDeliveredAndBlocksTheNextUntilIret) {
    Scenario say;
    say.l0().nmi();
    run(say);
    EXPECT_EQ(blocking(), 8U);
    Scenario next;
    next.l0().nmi().l1().nop();
    EXPECT_FALSE(run(next).nmi);
    Scenario iret;
    iret.l1().iret(frame);
    EXPECT_TRUE(run(iret).nmi) << "the one that waited";
    EXPECT_FALSE(run(iret).nmi) << "and no other";
    EXPECT_EQ(blocking(), 0U);
}

TEST_F(Nmi, OfSeveralThatWaitOneIsKept) {
    Scenario say;
    say.l0().nmi().nmi().nmi().nmi().l1().iret(frame);
    EXPECT_TRUE(run(say).nmi);
    Scenario iret;
    iret.l1().iret(frame);
    EXPECT_FALSE(run(iret).nmi);
}

TEST_F(Nmi, WaitsForTheInstructionAfterMovSsAndSti) {
    for (const bool sti : {true, false}) {
        Scenario say;
        if (sti) {
            say.l1().sti();
        } else {
            say.l1().mov_to_ss();
        }
        run(say);
        EXPECT_EQ(blocking(), sti ? 1U : 2U);
        Scenario next;
        next.l0().nmi().l1().nop();
        EXPECT_TRUE(run(next).nmi);
        EXPECT_EQ(blocking(), 8U);
        Scenario iret;
        run(iret.l1().iret(frame));
    }
    // STI blocks only where it sets IF.
    Scenario again;
    again.l1().sti();
    run(again);
    EXPECT_EQ(blocking(), 0U);
}

TEST_F(Nmi, WakesAProcessorThatIsHalted) {
    Scenario say;
    say.l1().hlt().l0().nmi().l1().nop();
    EXPECT_EQ(run(say).status, Observation::Status::done);
}

TEST_F(Nmi, InNonRootOperationExitsWhereItIsToAndBlocksTheHost) {
    launch(nmis_exit);
    Scenario say;
    say.l0().nmi();
    run(say);
    EXPECT_EQ(world_.running(0, 0), Actor::l1);
    EXPECT_EQ(blocking(), 8U);
    EXPECT_EQ(read(field::exit_reason), 0U);
    EXPECT_EQ(read(field::vm_exit_interruption_information), 0x8000'0202U);
    EXPECT_EQ(read(field::guest_interruptibility_state), 0U);
}

TEST_F(Nmi, InNonRootOperationIsDeliveredElseAndItsBlockingIsTheHostsAtAnExit) {
    launch(pin_default1);
    Scenario say;
    say.l0().nmi().l2().vmcall();
    run(say);
    EXPECT_EQ(blocking(), 8U);
    EXPECT_EQ(read(field::guest_interruptibility_state), 8U);
}

TEST_F(Nmi, AnEntryWithVirtualNmisUnblocksThem) {
    Scenario blocked;
    blocked.l0().nmi().nmi();  // the second waits
    run(blocked);
    Scenario say;
    say.edit().map(1, page_a, layout::data_page(0)).l1().vmxon().prepare(vmcs, {.vpid = 1, .tables = 1});
    say.vmwrite(field::pin_based_vm_execution_controls, virtual_nmis);
    say.vmwrite(field::guest_interruptibility_state, 8).vmlaunch();
    const Observation seen = run(say);
    EXPECT_EQ(seen.status, Observation::Status::exit) << "right behind the entry";
    EXPECT_EQ(read(field::guest_interruptibility_state), 8U) << "of virtual NMIs";
    EXPECT_EQ(blocking(), 8U);
}

TEST_F(Nmi, AnInjectedOneBlocks) {
    launch(virtual_nmis, 0, 0x8000'0202);
    EXPECT_EQ(blocking(), 8U);
    Scenario say;
    say.l2().iret(page_a);
    run(say);
    EXPECT_EQ(blocking(), 0U);
}

TEST_F(Nmi, IretLeavesBlockingWhereNmisExitAndAreNotVirtual) {
    launch(nmis_exit, 8);
    Scenario say;
    say.l2().iret(page_a);
    run(say);
    EXPECT_EQ(blocking(), 8U);
}

TEST_F(Nmi, AnIretThatFaultsHasUnblockedAndTheExitSaysSo) {
    launch(virtual_nmis, 8);
    Scenario say;
    say.l2().iret(0x5000'0000);
    EXPECT_EQ(run(say).status, Observation::Status::event);
    EXPECT_EQ(blocking(), 0U);
    Scenario leave;
    leave.l2().vmcall().l1().vmwrite(field::exception_bitmap, 1U << 14);
    leave.vmwrite(field::guest_interruptibility_state, 8).vmresume().l2().iret(0x5000'0000);
    run(leave);
    EXPECT_EQ(read(field::vm_exit_interruption_information), 0x8000'1B0EU);
    Scenario again;
    again.l1().vmresume().l2().iret(0x5000'0000);
    run(again);
    EXPECT_EQ(read(field::vm_exit_interruption_information), 0x8000'0B0EU) << "nothing was blocked";
}

TEST_F(Nmi, InjectionUnderBlockingIsRefused) {
    for (const std::uint64_t interruptibility : {1U, 2U, 8U}) {
        Scenario say;
        say.l1().vmxon().vmxoff().vmxon().prepare(vmcs, {.vpid = 1, .tables = 1});
        say.vmwrite(field::pin_based_vm_execution_controls, virtual_nmis).vmwrite(field::guest_rflags, 0x202);
        say.vmwrite(field::guest_interruptibility_state, interruptibility);
        say.vmwrite(field::vm_entry_interruption_information, 0x8000'0202).vmlaunch();
        const Observation seen = run(say);
        EXPECT_EQ(seen.exit.reason, 0x8000'0021U);
        EXPECT_EQ(seen.exit.qualification, interruptibility == 1 ? 3U : 0U);
    }
}

TEST_F(Nmi, AFailedEntryLeavesBlockingAsItWas) {
    Scenario say;
    say.l0()
        .nmi()
        .l1()
        .vmxon()
        .prepare(vmcs, {.vpid = 1, .tables = 1})
        .vmwrite(field::guest_rflags, 0)
        .vmlaunch();
    EXPECT_EQ(run(say).exit.reason, 0x8000'0021U);
    EXPECT_EQ(blocking(), 8U);
}

}  // namespace
}  // namespace flatback::machine::nmi_test
