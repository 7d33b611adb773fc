// Time on the machine, by the SDM: the time-stamp counter, and the VMX-preemption timer, what it ends, what
// it comes before, and what exits save of it.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "machine/program/bare_world.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"

namespace flatback::machine::time_test {
namespace {

namespace field = vmx::field;

constexpr std::uint64_t vmcs = layout::vmcs_region(0);
constexpr std::uint64_t expired = 52;  // SDM 3D appendix C
constexpr std::uint64_t timed = 0x16 | vmx::pin::activate_vmx_preemption_timer;
constexpr std::uint64_t saving = 0x33'6FFB | vmx::exit_control::save_vmx_preemption_timer_value;
constexpr std::uint64_t usual = 0x8400'61F2;

/// One virtual CPU, whose L1 has an L2 with a timer.
class Timer : public ::testing::Test {
protected:
    Observation make(const Scenario& say) {
        Observation seen;
        for (const Step& step : say.program().steps) seen = runner.step(step);
        return seen;
    }
    void prepare(std::uint32_t value, bool saves = true) {
        Scenario say;
        say.edit().map(1, 0x4000'0000, layout::data_page(0)).l1().vmxon().prepare(vmcs, {.vpid = 1});
        say.vmwrite(field::pin_based_vm_execution_controls, timed);
        say.vmwrite(field::vm_exit_controls, saves ? saving : 0x33'6FFBU);
        say.vmwrite(field::vmx_preemption_timer_value, value);
        make(say);
    }
    void write(auto which, std::uint64_t value) { make(Scenario{}.vmwrite(which, value)); }
    std::uint64_t read(auto which) { return make(Scenario{}.vmread(which)).value; }
    /// At the beginning of a unit of the timer; how it ended.
    Observation enter(bool launch = true) {
        machine().set_tsc((machine().tsc() + 8) / 4 * 4 - 1);
        return make(launch ? Scenario{}.vmlaunch() : Scenario{}.vmresume());
    }
    /// How many NOPs L2 executes before it exits.
    std::size_t nops(std::size_t most = 100) {
        for (std::size_t done = 0; done < most; ++done) {
            last = make(Scenario{}.l2().nop());
            if (last.status == Observation::Status::exit) return done;
        }
        return most;
    }
    Machine& machine() { return world.machine(); }

    BareWorld world;
    Runner runner{world};
    Observation last;
};

TEST_F(Timer, TheTimeStampCounterCountsInstructions) {
    const std::uint64_t first = make(Scenario{}.l1().rdtsc()).value;
    EXPECT_EQ(make(Scenario{}.l1().rdtsc()).value, first + 1);
    EXPECT_EQ(make(Scenario{}.l1().nop().nop().rdtsc()).value, first + 4);
    machine().pass_time(100);
    EXPECT_EQ(make(Scenario{}.l1().rdtsc()).value, first + 105);
    machine().set_instruction_ticks(7);
    EXPECT_EQ(make(Scenario{}.l1().rdtsc()).value, first + 112) << "at the end of the instruction";
}

// Bits 4:0 of IA32_VMX_MISC are 2 here: each fourth tick (SDM 3C 26.5.1, 3D A.6).
TEST_F(Timer, CountsByTheCapabilitysBitOfTheCounter) {
    EXPECT_EQ(make(Scenario{}.l1().rdmsr(0x485)).value & 0x1F, 2U);
    for (const std::uint32_t value : {1U, 2U, 10U}) {
        prepare(value);
        enter();
        EXPECT_EQ(nops(), 4 * value) << value;
        EXPECT_EQ(last.exit.reason, expired);
        EXPECT_EQ(last.exit.qualification, 0U);
        make(Scenario{}.vmxoff());
    }
}

TEST_F(Timer, OfZeroExitsBeforeTheFirstInstruction) {
    prepare(0);
    enter();
    const std::uint64_t rip = machine().cpu(0).registers.rip;
    EXPECT_EQ(nops(), 0U);
    EXPECT_EQ(last.exit.reason, expired);
    EXPECT_EQ(last.exit.guest_rip, rip);
}

TEST_F(Timer, IsSavedWhereTheControlSaysSo) {
    prepare(10);
    enter();
    make(Scenario{}.l2().nop().nop().nop().nop().nop().nop().vmcall());
    EXPECT_EQ(read(field::vmx_preemption_timer_value), 9U) << "seven ticks are one unit and a part";
    enter(false);
    EXPECT_EQ(nops(), 36U);
    EXPECT_EQ(read(field::vmx_preemption_timer_value), 0U);
    make(Scenario{}.vmxoff());

    prepare(10, false);
    enter();
    make(Scenario{}.l2().nop().nop().nop().nop().nop().nop().vmcall());
    EXPECT_EQ(read(field::vmx_preemption_timer_value), 10U);
    enter(false);
    EXPECT_EQ(nops(), 40U);
}

TEST_F(Timer, ThatIsNotActiveEndsNothing) {
    prepare(1, false);
    write(field::pin_based_vm_execution_controls, 0x16);
    enter();
    EXPECT_EQ(nops(), 100U);
}

// SDM 3C 27.2.1.2.
TEST_F(Timer, ThatIsNotActiveCannotBeSaved) {
    prepare(1);
    write(field::pin_based_vm_execution_controls, 0x16);
    const Observation refused = enter();
    EXPECT_EQ(refused.instruction_error, 7U);
}

// SDM 3C 27.7.4: it wakes from HLT, and neither STI nor MOV SS keeps it out.
TEST_F(Timer, WakesAHaltedProcessorAndIsNotBlocked) {
    prepare(3);
    write(field::primary_processor_based_vm_execution_controls, usual & ~0x80U);
    enter();
    make(Scenario{}.l2().hlt());
    EXPECT_EQ(machine().cpu(0).registers.activity, vmx::ActivityState::hlt);
    EXPECT_EQ(nops(), 11U);
    EXPECT_EQ(last.exit.reason, expired);
    EXPECT_EQ(read(field::guest_activity_state), 1U) << "as it was";

    write(field::guest_activity_state, 0);
    write(field::vmx_preemption_timer_value, 1);
    enter(false);
    make(Scenario{}.l2().nop().nop().nop().mov_to_ss());
    EXPECT_EQ(nops(), 0U);
    EXPECT_EQ(last.exit.reason, expired);
    EXPECT_EQ(read(field::guest_interruptibility_state), 2U);
}

// SDM 3C 27.7.4: before an NMI window and all that comes behind that.
TEST_F(Timer, ComesBeforeWindowsNmisAndInterrupts) {
    prepare(0);
    write(field::pin_based_vm_execution_controls, timed | 0x29);  // both exit, virtual NMIs
    write(field::primary_processor_based_vm_execution_controls,
          usual | vmx::primary::nmi_window_exiting | vmx::primary::interrupt_window_exiting);
    write(field::guest_rflags, 0x202);
    enter();
    make(Scenario{}.l0().nmi().interrupt(0x31));
    EXPECT_FALSE(machine().can_take_nmi(0));
    EXPECT_FALSE(machine().can_take_interrupt(0));
    EXPECT_EQ(nops(), 0U);
    EXPECT_EQ(last.exit.reason, expired);
    write(field::vmx_preemption_timer_value, 100);
    make(Scenario{}.vmresume());
    EXPECT_EQ(nops(), 0U);
    EXPECT_EQ(last.exit.reason, 8U) << "the NMI window";
}

// An event that the entry injects is delivered first.
TEST_F(Timer, ComesBehindAnInjectedEvent) {
    prepare(0);
    write(field::vm_entry_interruption_information, 0x8000'0306);
    const Observation entry = enter();
    EXPECT_EQ(entry.event.vector, 6U);
    EXPECT_EQ(nops(), 0U);
    EXPECT_EQ(last.exit.reason, expired);
}

}  // namespace
}  // namespace flatback::machine::time_test
