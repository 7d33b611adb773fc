// Events: L1's injections, deliveries that an exit interrupted, NMIs.
#include <gtest/gtest.h>

#include "tests/nested/virtual_cpu.hpp"
#include "vmx/exit_qualification.hpp"
#include "vmx/interruption.hpp"

namespace flatback::nested_test::events_test {
namespace {

constexpr std::uint32_t external_30 = 0x8000'0030;
constexpr std::uint32_t page_fault_event = 0x8000'0b0e;
constexpr std::uint32_t int3 = 0x8000'0603;
constexpr std::uint32_t nmi = 0x8000'0202;
constexpr std::uint32_t blocking_by_nmi = vmx::interruptibility::blocking_by_nmi;

class Events : public ::testing::TestWithParam<bool> {
protected:
    Events() { l1.prepare(); }
    // An exit that L0 takes for itself: L2, without EPT of L1's, met an EPT violation of EPT01.
    Outcome l0_takes(L2Exit exit) {
        exit.reason = ExitReason::ept_violation;
        return l1.l2_exits(exit);
    }
    void use_nmi_exiting(bool virtual_nmis) {
        l1.raise(field::pin_based_vm_execution_controls,
                 vmx::pin::nmi_exiting | (virtual_nmis ? vmx::pin::virtual_nmis : 0));
    }
    VirtualCpu l1{{.shadow_vmcs = GetParam()}};
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, Events, ::testing::Bool());

TEST_P(Events, ThatL1InjectsAreInjectedOnce) {
    l1.write(field::vm_entry_interruption_information, external_30);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.injected(), external_30);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.read(field::vm_entry_interruption_information), 0x30U)
        << "the exit clears the valid bit, no other";
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.injected() & vmx::InterruptionInformation::valid_bit, 0U);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.write(field::vm_entry_interruption_information, external_30);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.injected(), external_30) << "the same again";
}

TEST_P(Events, AreNotInjectedAgainWhereL0ResumesL2) {
    l1.write(field::vm_entry_interruption_information, external_30);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l0_takes({}), l2_runs);
    EXPECT_EQ(l1.injected() & vmx::InterruptionInformation::valid_bit, 0U);
}

TEST_P(Events, WhoseDeliveryL0InterruptedAreDeliveredAgain) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l0_takes({.vectoring = external_30}), l2_runs);
    EXPECT_EQ(l1.injected(), external_30);
    ASSERT_EQ(l0_takes({.vectoring = page_fault_event, .vectoring_error_code = 6}), l2_runs);
    EXPECT_EQ(l1.injected(), page_fault_event);
    EXPECT_EQ(l1.vmcs02().get(field::vm_entry_exception_error_code), 6U);
    ASSERT_EQ(l0_takes({.vectoring = int3 | 1U << 12, .instruction_length = 1}), l2_runs);
    EXPECT_EQ(l1.injected(), int3) << "without the bits that an injection must not have";
    EXPECT_EQ(l1.vmcs02().get(field::vm_entry_instruction_length), 1U);
    EXPECT_EQ(l1.counters().l2_reentries, 3U);
}

TEST_P(Events, WhoseDeliveryL1InterruptedAreL1sMatter) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::io_instruction, .vectoring = external_30}),
              l1_sees(ExitReason::io_instruction));
    EXPECT_EQ(l1.read(field::idt_vectoring_information), external_30);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.injected() & vmx::InterruptionInformation::valid_bit, 0U);
}

TEST_P(Events, AnNmiThatIsDeliveredAgainFindsNmisUnblocked) {
    use_nmi_exiting(true);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.vmcs02().set(field::guest_interruptibility_state, blocking_by_nmi);
    ASSERT_EQ(l0_takes({.vectoring = nmi}), l2_runs);
    EXPECT_EQ(l1.injected(), nmi) << "with virtual NMIs blocked the processor would refuse it";
    EXPECT_EQ(l1.nmis_in_l2, 1U);
}

TEST_P(Events, AnIretThatAnEptViolationInterruptedLeavesNmisBlocked) {
    use_nmi_exiting(true);
    l1.use_ept(layout::ept_tables | 0x1e);
    // EPT12: one table a level, everything at one page.
    for (std::uint64_t level = 0; level < 4; ++level) {
        l1.port.memory.write<std::uint64_t>(
            layout::ept_tables + level * 0x1000,
            (layout::ept_tables + (level + 1) * 0x1000) | (level == 3 ? 0x37 : 7));
    }
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    const std::uint64_t unblocking = vmx::EptViolation::read | vmx::EptViolation::nmi_unblocking_by_iret;
    ASSERT_EQ(l0_takes({.qualification = unblocking, .vectoring = external_30}), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_interruptibility_state), 0U)
        << "of a delivery the bit says nothing";
    ASSERT_EQ(l0_takes({.qualification = unblocking}), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_interruptibility_state), blocking_by_nmi);
}

TEST_P(Events, AnIretThatL0InterruptedUnderEpt01LeavesNmisBlocked) {
    use_nmi_exiting(true);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    const std::uint64_t unblocking = vmx::EptViolation::read | vmx::EptViolation::nmi_unblocking_by_iret;
    ASSERT_EQ(l0_takes({.qualification = vmx::EptViolation::read}), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_interruptibility_state), 0U);
    ASSERT_EQ(l0_takes({.qualification = unblocking}), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_interruptibility_state), blocking_by_nmi);
}

TEST_P(Events, AnNmiExitBlocksNmisInL1) {
    use_nmi_exiting(false);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::exception_or_nmi, .interruption = nmi}),
              l1_sees(ExitReason::exception_or_nmi));
    EXPECT_EQ(l1.vmcs01().get(field::guest_interruptibility_state), blocking_by_nmi);
    l1.vmcs01().set(field::guest_interruptibility_state, 0);  // L1's IRET
    ASSERT_EQ(l1.vmresume(), l2_runs);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::exception_or_nmi, .interruption = page_fault_event}),
              l1_sees(ExitReason::exception_or_nmi));
    EXPECT_EQ(l1.vmcs01().get(field::guest_interruptibility_state), 0U) << "an exception does not";
}

TEST_P(Events, VirtualNmiBlockingIsL2sAlone) {
    use_nmi_exiting(true);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.vmcs02().set(field::guest_interruptibility_state, blocking_by_nmi);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.vmcs01().get(field::guest_interruptibility_state), 0U);
    EXPECT_EQ(l1.read(field::guest_interruptibility_state), blocking_by_nmi);
}

// --- an NMI that the host took

TEST_P(Events, AnNmiOfTheHostsGoesToL1WhileL1Runs) {
    EXPECT_TRUE(l1.deliver_nmi());
    EXPECT_EQ(l1.vmcs01().get(field::vm_entry_interruption_information), nmi);
    EXPECT_FALSE(l1.deliver_nmi()) << "one event an entry";
    l1.vmcs01().set(field::vm_entry_interruption_information, 0);
    l1.vmcs01().set(field::guest_interruptibility_state, blocking_by_nmi);
    EXPECT_FALSE(l1.deliver_nmi());
    l1.vmcs01().set(field::guest_interruptibility_state, vmx::interruptibility::blocking_by_mov_ss);
    EXPECT_FALSE(l1.deliver_nmi());
}

TEST_P(Events, AnNmiOfTheHostsGoesThroughL2sIdtWhereL1DoesNotWantIt) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_TRUE(l1.deliver_nmi());
    EXPECT_TRUE(l1.in_l2());
    EXPECT_EQ(l1.vmcs02().get(field::vm_entry_interruption_information), nmi);
}

TEST_P(Events, AnNmiOfTheHostsIsAnExitWhereL1WantsIt) {
    use_nmi_exiting(true);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l0_takes({.vectoring = 0x30}), l2_runs);
    l1.vmcs02().set(field::guest_rip, 0x4444'0000);
    EXPECT_TRUE(l1.deliver_nmi());
    EXPECT_FALSE(l1.in_l2());
    EXPECT_EQ(l1.vmcs01().get(field::guest_rip), layout::host_rip);
    EXPECT_EQ(l1.vmcs01().get(field::guest_interruptibility_state), blocking_by_nmi);
    EXPECT_EQ(l1.read(field::exit_reason), 0U);
    EXPECT_EQ(l1.read(field::vm_exit_interruption_information), nmi);
    EXPECT_EQ(l1.read(field::idt_vectoring_information), 0U);
    EXPECT_EQ(l1.read(field::guest_rip), 0x4444'0000U);
    l1.vmcs01().set(field::guest_interruptibility_state, 0);
    EXPECT_EQ(l1.vmresume(), l2_runs);
}

// --- faults of L0's making

TEST_P(Events, AFaultInRealModeHasNoErrorCode) {
    l1.vmcs01().set(field::guest_cr0, 0x30);
    l1.inject_general_protection();
    EXPECT_EQ(l1.vmcs01().get(field::vm_entry_interruption_information), 0x8000'030dU);
}

TEST_P(Events, AnAccessBeyondAllMemoryIsAFaultOfL2) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.port.ept01_grants = false;
    ASSERT_EQ(l0_takes({.guest_physical = L1Memory::size}), l2_runs);
    EXPECT_EQ(l1.injected(), 0x8000'0b0dU);
    EXPECT_EQ(l1.port.ept01_violations.front(), L1Memory::size);
}

}  // namespace
}  // namespace flatback::nested_test::events_test
