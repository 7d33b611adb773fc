// A machine check that came while L0 ran, and behind which the processor can go on: it reaches one guest,
// once, as if it had come at the entry.
#include <gtest/gtest.h>

#include <utility>

#include "tests/nested/virtual_cpu.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"

namespace flatback::nested_test::machine_check_test {
namespace {

constexpr std::uint32_t machine_check = 0x8000'0312;
constexpr std::uint32_t external_30 = 0x8000'0030;
constexpr std::uint32_t nmi = 0x8000'0202;
constexpr std::uint32_t valid = vmx::InterruptionInformation::valid_bit;
constexpr std::uint32_t bitmap_bit = 1U << 18;
constexpr std::uint64_t refused_cr0 = 0x8005'0032;  // paging without protection

class MachineCheck : public ::testing::TestWithParam<bool> {
protected:
    MachineCheck() {
        l1.prepare();
        l1.vmcs01().set(field::guest_cr4, l1.vmcs01().get(field::guest_cr4) | x86::cr4::machine_check_enable);
        set_l2_enable(true);
    }
    void set_l2_enable(bool enabled) {
        const std::uint64_t cr4 = l1.read(field::guest_cr4) & ~x86::cr4::machine_check_enable;
        l1.write(field::guest_cr4, enabled ? cr4 | x86::cr4::machine_check_enable : cr4);
        const std::uint64_t host = l1.read(field::host_cr4);
        l1.write(field::host_cr4, host | x86::cr4::machine_check_enable);
    }
    void intercept() { l1.raise(field::exception_bitmap, bitmap_bit); }
    Outcome l0_takes(L2Exit exit = {}) {
        exit.reason = ExitReason::ept_violation;
        return l1.l2_exits(exit);
    }
    void comes() { l1.port.machine_check_pending = true; }
    [[nodiscard]] bool waits() const { return l1.port.machine_check_pending; }
    VirtualCpu l1{{.shadow_vmcs = GetParam()}};
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, MachineCheck, ::testing::Bool());

TEST_P(MachineCheck, IsL1sWhereL1IsEntered) {
    comes();
    EXPECT_EQ(l1.vmptrst(), vm_succeed) << "behind the instruction that L0 did";
    EXPECT_EQ(l1.machine_checks_in_l1, 1U);
    EXPECT_FALSE(waits());
    EXPECT_EQ(l1.vmptrst(), vm_succeed);
    EXPECT_EQ(l1.machine_checks_in_l1, 1U) << "once";
}

TEST_P(MachineCheck, ShutsL1DownWhereItsCr4HasNone) {
    l1.vmcs01().set(field::guest_cr4, l1.vmcs01().get(field::guest_cr4) & ~x86::cr4::machine_check_enable);
    comes();
    EXPECT_ANY_THROW((void)l1.vmptrst());
}

TEST_P(MachineCheck, IsL2sWhereL1DoesNotInterceptIt) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    comes();
    ASSERT_EQ(l0_takes(), l2_runs);
    EXPECT_EQ(l1.injected(), machine_check);
    EXPECT_EQ(l1.machine_checks_in_l2, 1U);
    EXPECT_FALSE(waits());
    ASSERT_EQ(l0_takes(), l2_runs);
    EXPECT_EQ(l1.injected() & valid, 0U) << "once";
}

TEST_P(MachineCheck, IsAnExitWhereL1InterceptsIt) {
    intercept();
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    comes();
    ASSERT_EQ(l0_takes(), l1_sees(ExitReason::exception_or_nmi));
    EXPECT_EQ(l1.read(field::vm_exit_interruption_information), machine_check);
    EXPECT_EQ(l1.read(field::idt_vectoring_information), 0U);
    EXPECT_EQ(l1.machine_checks_in_l1 + l1.machine_checks_in_l2, 0U);
    EXPECT_FALSE(waits());
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.injected() & valid, 0U);
}

TEST_P(MachineCheck, ShutsL2DownWhereItsCr4HasNone) {
    for (const bool intercepted : {false, true}) {
        VirtualCpu other{{.shadow_vmcs = GetParam()}};
        other.prepare();
        if (intercepted) other.raise(field::exception_bitmap, bitmap_bit);
        other.write(field::guest_cr4, other.read(field::guest_cr4) & ~x86::cr4::machine_check_enable);
        ASSERT_EQ(other.vmlaunch(), l2_runs);
        other.port.machine_check_pending = true;
        EXPECT_EQ(other.l2_exits({.reason = ExitReason::ept_violation}), l1_sees(ExitReason::triple_fault));
    }
}

TEST_P(MachineCheck, IsBlockedByNothing) {
    using namespace vmx::interruptibility;
    for (const std::uint32_t blocking : {blocking_by_sti, blocking_by_mov_ss, blocking_by_nmi}) {
        VirtualCpu other{{.shadow_vmcs = GetParam()}};
        other.prepare();
        other.write(field::guest_cr4, other.read(field::guest_cr4) | x86::cr4::machine_check_enable);
        ASSERT_EQ(other.vmlaunch(), l2_runs);
        other.vmcs02().set(field::guest_interruptibility_state, blocking);
        if (blocking == blocking_by_sti) other.vmcs02().set(field::guest_rflags, 0x202);
        other.port.machine_check_pending = true;
        ASSERT_EQ(other.l2_exits({.reason = ExitReason::ept_violation}), l2_runs);
        EXPECT_EQ(other.injected(), machine_check) << blocking;
    }
}

TEST_P(MachineCheck, ComesBehindTheEventThatIsOnItsWay) {
    for (const std::uint32_t event : {external_30, nmi}) {
        VirtualCpu other{{.shadow_vmcs = GetParam()}};
        other.prepare();
        other.write(field::guest_cr4, other.read(field::guest_cr4) | x86::cr4::machine_check_enable);
        other.write(field::vm_entry_interruption_information, event);
        other.port.machine_check_pending = true;
        ASSERT_EQ(other.vmlaunch(), l2_runs);
        EXPECT_EQ(other.injected(), event);
        EXPECT_TRUE(other.port.machine_check_pending);
        // L2 exits when the event was delivered, by the timer at 0: no window opens for sure.
        const auto timer = [&other] {
            return other.vmcs02().get(field::pin_based_vm_execution_controls) &
                   vmx::pin::activate_vmx_preemption_timer;
        };
        ASSERT_NE(timer(), 0U);
        EXPECT_EQ(other.vmcs02().get(field::vmx_preemption_timer_value), 0U);
        ASSERT_EQ(other.l2_exits({.reason = ExitReason::vmx_preemption_timer_expired}), l2_runs)
            << "L1 did not ask for it";
        EXPECT_EQ(other.injected(), machine_check);
        EXPECT_EQ(timer(), 0U);
    }
}

TEST_P(MachineCheck, ComesBeforeAnNmiThatWaitsToo) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    comes();
    l1.port.nmi_pending = true;
    ASSERT_EQ(l0_takes(), l2_runs);
    EXPECT_EQ(l1.injected(), machine_check);
    EXPECT_TRUE(l1.port.nmi_pending);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::nmi_window}), l2_runs);
    EXPECT_EQ(l1.injected(), nmi);
}

TEST_P(MachineCheck, OfAnEntryThatFailsInAnyWayIsL1s) {
    using Refusal = VirtualCpu::Refusal;
    for (const auto& [refusal, outcome] :
         {std::pair{Refusal::vmfail, vm_fail(InstructionError::entry_with_invalid_control_fields)},
          std::pair{Refusal::guest_state, l1_sees(ExitReason::entry_failure_guest_state)},
          std::pair{Refusal::msr_list, l1_sees(ExitReason::entry_failure_msr_loading)}}) {
        VirtualCpu other{{.shadow_vmcs = GetParam()}};
        other.prepare();
        other.write(field::guest_cr4, other.read(field::guest_cr4) | x86::cr4::machine_check_enable);
        other.write(field::host_cr4, other.read(field::host_cr4) | x86::cr4::machine_check_enable);
        other.vmcs01().set(field::guest_cr4,
                           other.vmcs01().get(field::guest_cr4) | x86::cr4::machine_check_enable);
        other.port.machine_check_pending = true;
        other.refusal = refusal;
        EXPECT_EQ(other.vmlaunch(), outcome);
        EXPECT_EQ(other.machine_checks_in_l1, 1U);
        ASSERT_EQ(other.vmlaunch(), l2_runs);
        EXPECT_EQ(other.machine_checks_in_l2, 0U);
    }
}

TEST_P(MachineCheck, DoesNotHideThatAnEntryFails) {
    intercept();
    l1.write(field::guest_cr0, refused_cr0);
    comes();
    ASSERT_EQ(l1.vmlaunch(), l1_sees(ExitReason::entry_failure_guest_state));
    EXPECT_EQ(l1.machine_checks_in_l1, 1U);
}

// SDM 3C 27.9: the entry itself fails by it.
TEST_P(MachineCheck, DuringL1sEntryIsTheExitThatTheProcessorMakes) {
    l1.refusal = VirtualCpu::Refusal::machine_check;
    EXPECT_EQ(l1.vmlaunch(), l1_sees(ExitReason::entry_failure_machine_check));
    EXPECT_EQ(l1.machine_checks_in_l1, 0U) << "L1 has been told";
}

TEST_P(MachineCheck, DuringAnEntryOfL0sOwnIsL2s) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.refusal = VirtualCpu::Refusal::machine_check;
    ASSERT_EQ(l0_takes(), l2_runs);
    EXPECT_EQ(l1.injected(), machine_check);
    EXPECT_EQ(l1.machine_checks_in_l2, 1U);
}

}  // namespace
}  // namespace flatback::nested_test::machine_check_test
