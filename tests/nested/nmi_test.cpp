// An NMI that came while L0 ran: it reaches one guest, once, by an entry that succeeds.
#include <gtest/gtest.h>

#include <utility>

#include "tests/nested/virtual_cpu.hpp"
#include "vmx/interruption.hpp"

namespace flatback::nested_test::nmi_test {
namespace {

namespace bit = vmx::interruptibility;
constexpr std::uint32_t external_30 = 0x8000'0030;
constexpr std::uint32_t nmi = 0x8000'0202;
constexpr std::uint32_t valid = vmx::InterruptionInformation::valid_bit;
constexpr std::uint64_t refused_cr0 = 0x8005'0032;  // paging without protection
constexpr std::uint64_t good_cr0 = 0x8005'0033;

class Nmi : public ::testing::TestWithParam<bool> {
protected:
    Nmi() { l1.prepare(); }
    void use_nmi_exiting(bool virtual_nmis) {
        l1.raise(field::pin_based_vm_execution_controls,
                 vmx::pin::nmi_exiting | (virtual_nmis ? vmx::pin::virtual_nmis : 0));
    }
    Outcome l0_takes(L2Exit exit = {}) {
        exit.reason = ExitReason::ept_violation;
        return l1.l2_exits(exit);
    }
    static bool interrupt_window_is_open(const FakeVmcs& v) {
        return (v.get(field::primary_processor_based_vm_execution_controls) &
                vmx::primary::interrupt_window_exiting) != 0;
    }
    static bool nmi_window_is_open(const FakeVmcs& v) {
        const bool open = (v.get(field::primary_processor_based_vm_execution_controls) &
                           vmx::primary::nmi_window_exiting) != 0;
        constexpr std::uint32_t both = vmx::pin::nmi_exiting | vmx::pin::virtual_nmis;
        EXPECT_EQ((v.get(field::pin_based_vm_execution_controls) & both) == both, open);
        return open;
    }
    // L2 is in a handler of its own NMI, and there L0 handles an exit.
    void l2_handles_an_nmi() {
        ASSERT_EQ(l1.vmlaunch(), l2_runs);
        l1.vmcs02().set(field::guest_interruptibility_state, bit::blocking_by_nmi);
        nmi_comes();
        ASSERT_EQ(l0_takes(), l2_runs);
        ASSERT_TRUE(nmi_waits());
    }
    Outcome l2_executes_iret() {
        l1.vmcs02().set(field::guest_interruptibility_state, 0);
        return l1.l2_exits({.reason = ExitReason::nmi_window});
    }
    void nmi_comes() { l1.port.nmi_pending = true; }
    [[nodiscard]] bool nmi_waits() const { return l1.port.nmi_pending; }
    VirtualCpu l1{{.shadow_vmcs = GetParam()}};
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, Nmi, ::testing::Bool());

TEST_P(Nmi, OfAnEntryThatTheProcessorRefusesIsL1sAndNoLaterEntryHasIt) {
    l1.write(field::guest_cr0, refused_cr0);
    nmi_comes();
    ASSERT_EQ(l1.vmlaunch(), l1_sees(ExitReason::entry_failure_guest_state));
    EXPECT_EQ(l1.nmis_in_l1, 1U) << "L1 runs, and nothing blocks it";
    EXPECT_FALSE(nmi_waits());
    l1.write(field::guest_cr0, good_cr0);
    for (unsigned n = 0; n < 3; ++n) {
        ASSERT_EQ(n == 0 ? l1.vmlaunch() : l1.vmresume(), l2_runs);
        EXPECT_EQ(l1.injected() & valid, 0U);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
    EXPECT_EQ(l1.nmis_in_l2, 0U);
}

TEST_P(Nmi, OfAnEntryThatFailsInAnyWayIsL1s) {
    using Refusal = VirtualCpu::Refusal;
    for (const auto& [refusal, outcome] :
         {std::pair{Refusal::vmfail, vm_fail(InstructionError::entry_with_invalid_control_fields)},
          std::pair{Refusal::guest_state, l1_sees(ExitReason::entry_failure_guest_state)},
          std::pair{Refusal::msr_list, l1_sees(ExitReason::entry_failure_msr_loading)}}) {
        VirtualCpu other{{.shadow_vmcs = GetParam()}};
        other.prepare();
        other.port.nmi_pending = true;
        other.refusal = refusal;
        EXPECT_EQ(other.vmlaunch(), outcome);
        EXPECT_EQ(other.nmis_in_l1, 1U);
        ASSERT_EQ(other.vmlaunch(), l2_runs);
        EXPECT_EQ(other.nmis_in_l2, 0U);
    }
}

TEST_P(Nmi, OfAReentryThatTheProcessorRefusesIsL1s) {
    for (const auto refusal : {VirtualCpu::Refusal::vmfail, VirtualCpu::Refusal::guest_state}) {
        VirtualCpu other{{.shadow_vmcs = GetParam()}};
        other.prepare_and_launch();
        other.port.nmi_pending = true;
        other.refusal = refusal;
        EXPECT_EQ(other.l2_exits({.reason = ExitReason::ept_violation}), l1_sees(ExitReason::triple_fault));
        EXPECT_EQ(other.nmis_in_l1, 1U);
        ASSERT_EQ(other.vmresume(), l2_runs);
        EXPECT_EQ(other.nmis_in_l2, 0U);
    }
}

TEST_P(Nmi, ThatL1InjectsIsNotTakenForTheHosts) {
    l1.write(field::vm_entry_interruption_information, nmi);
    l1.write(field::guest_cr0, refused_cr0);
    ASSERT_EQ(l1.vmlaunch(), l1_sees(ExitReason::entry_failure_guest_state));
    EXPECT_EQ(l1.nmis_in_l1, 0U);
    EXPECT_EQ(l1.read(field::vm_entry_interruption_information), nmi)
        << "an entry that fails uses up nothing";
    l1.write(field::guest_cr0, good_cr0);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.injected(), nmi);
    // L0 interrupted its delivery, and the processor refuses what L0 makes of it.
    ASSERT_EQ(l0_takes({.vectoring = nmi}), l2_runs);
    EXPECT_EQ(l1.hardware_refuses_state(), l1_sees(ExitReason::triple_fault));
    EXPECT_EQ(l1.nmis_in_l1, 0U);
}

TEST_P(Nmi, WaitsForTheInstructionBehindStiAsBehindMovSs) {
    for (const std::uint32_t blocking : {bit::blocking_by_sti, bit::blocking_by_mov_ss}) {
        for (const bool exits : {false, true}) {
            VirtualCpu other{{.shadow_vmcs = GetParam()}};
            other.prepare();
            if (exits) other.raise(field::pin_based_vm_execution_controls, vmx::pin::nmi_exiting);
            ASSERT_EQ(other.vmlaunch(), l2_runs);
            other.vmcs02().set(field::guest_interruptibility_state, blocking);
            other.port.nmi_pending = true;
            ASSERT_EQ(other.l2_exits({.reason = ExitReason::ept_violation}), l2_runs);
            EXPECT_EQ(other.injected() & valid, 0U);
            EXPECT_TRUE(other.port.nmi_pending);
            other.vmcs02().set(field::guest_interruptibility_state, 0);
            EXPECT_EQ(other.l2_exits({.reason = ExitReason::ept_violation}),
                      exits ? l1_sees(ExitReason::exception_or_nmi) : l2_runs);
            EXPECT_EQ(other.nmis_in_l2, exits ? 0U : 1U);
            EXPECT_FALSE(other.port.nmi_pending);
        }
    }
}

TEST_P(Nmi, DoesNotHideThatAnEntryFails) {
    use_nmi_exiting(false);
    l1.write(field::guest_cr0, refused_cr0);
    nmi_comes();
    ASSERT_EQ(l1.vmlaunch(), l1_sees(ExitReason::entry_failure_guest_state));
    EXPECT_EQ(l1.nmis_in_l1, 1U);
    EXPECT_EQ(l1.vmresume(), vm_fail(InstructionError::vmresume_with_non_launched_vmcs));
}

TEST_P(Nmi, ComesAfterTheEventThatL1Injects) {
    l1.write(field::vm_entry_interruption_information, external_30);
    nmi_comes();
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.injected(), external_30);
    EXPECT_TRUE(nmi_waits());
    ASSERT_EQ(l0_takes(), l2_runs);
    EXPECT_EQ(l1.injected(), nmi);
    EXPECT_FALSE(nmi_waits());
}

// --- the window: an exit of L0's own, when the guest can take the NMI

TEST_P(Nmi, ThatAnotherEventKeepsOutComesRightBehindIt) {
    l1.write(field::vm_entry_interruption_information, external_30);
    nmi_comes();
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_TRUE(nmi_window_is_open(l1.vmcs02()));
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::nmi_window}), l2_runs) << "L1 did not ask for it";
    EXPECT_EQ(l1.injected(), nmi);
    EXPECT_FALSE(nmi_waits());
    EXPECT_FALSE(nmi_window_is_open(l1.vmcs02()));
}

TEST_P(Nmi, ThatAnotherEventKeepsOutOfAGuestWithNmiExitingComesRightBehindItToo) {
    const auto exits_by_timer = [&] {
        return (l1.vmcs02().get(field::pin_based_vm_execution_controls) &
                vmx::pin::activate_vmx_preemption_timer) != 0;
    };
    use_nmi_exiting(false);
    l1.write(field::vm_entry_interruption_information, external_30);
    nmi_comes();
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_TRUE(exits_by_timer());
    EXPECT_EQ(l1.vmcs02().get(field::vmx_preemption_timer_value), 0U);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::vmx_preemption_timer_expired}),
              l1_sees(ExitReason::exception_or_nmi));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_FALSE(exits_by_timer());
}

TEST_P(Nmi, ThatStiKeepsOutComesWhenTheGuestCanTakeInterrupts) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.vmcs02().set(field::guest_interruptibility_state, bit::blocking_by_sti);
    l1.vmcs02().set(field::guest_rflags, 0x202);
    nmi_comes();
    ASSERT_EQ(l0_takes(), l2_runs);
    EXPECT_TRUE(interrupt_window_is_open(l1.vmcs02()))
        << "the NMI window may be open at once where STI blocks, and L2 would not get on";
    EXPECT_EQ((l1.vmcs02().get(field::pin_based_vm_execution_controls) & vmx::pin::nmi_exiting), 0U);
}

TEST_P(Nmi, LeavesL1ItsOwnInterruptWindow) {
    use_nmi_exiting(true);
    l1.raise(field::primary_processor_based_vm_execution_controls, vmx::primary::interrupt_window_exiting);
    l1.write(field::vm_entry_interruption_information, external_30);
    nmi_comes();
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::interrupt_window}), l1_sees(ExitReason::interrupt_window));
    EXPECT_EQ(l1.nmis_in_l1, 1U);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_TRUE(interrupt_window_is_open(l1.vmcs02()));
}

TEST_P(Nmi, LeavesL1ItsOwnNmiWindow) {
    use_nmi_exiting(true);
    l1.raise(field::primary_processor_based_vm_execution_controls, vmx::primary::nmi_window_exiting);
    l1.write(field::vm_entry_interruption_information, external_30);
    nmi_comes();
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::nmi_window}), l1_sees(ExitReason::nmi_window));
    EXPECT_EQ(l1.nmis_in_l1, 1U);
}

TEST_P(Nmi, ThatL1GotLeavesNoWindowInL2) {
    l1.write(field::vm_entry_interruption_information, external_30);
    nmi_comes();
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_TRUE(nmi_window_is_open(l1.vmcs02()));
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.nmis_in_l1, 1U);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_FALSE(nmi_window_is_open(l1.vmcs02()));
}

TEST_P(Nmi, ThatL2GotLeavesNoWindowInL1) {
    l1.vmcs01().set(field::guest_interruptibility_state, bit::blocking_by_nmi);
    nmi_comes();
    (void)l1.vmcall();
    ASSERT_TRUE(nmi_window_is_open(l1.vmcs01()));
    ASSERT_EQ(l1.vmlaunch(), l2_runs) << "the entry ends the blocking: SDM 3C 27.7.1";
    EXPECT_EQ(l1.injected(), nmi);
    EXPECT_FALSE(nmi_window_is_open(l1.vmcs01()));
}

TEST_P(Nmi, WaitsInL1ForItsWindowToo) {
    l1.vmcs01().set(field::vm_entry_interruption_information, external_30);
    EXPECT_FALSE(l1.deliver_nmi());
    EXPECT_TRUE(nmi_window_is_open(l1.vmcs01()));
    l1.close_window();
    EXPECT_FALSE(nmi_window_is_open(l1.vmcs01()));
}

// --- blocking by NMI: the window is the guest's IRET

TEST_P(Nmi, ThatIsBlockedComesAtTheIret) {
    l2_handles_an_nmi();
    EXPECT_EQ(l1.injected() & valid, 0U);
    EXPECT_TRUE(nmi_window_is_open(l1.vmcs02()));
    ASSERT_EQ(l2_executes_iret(), l2_runs);
    EXPECT_EQ(l1.injected(), nmi);
    EXPECT_FALSE(nmi_waits());
    EXPECT_FALSE(nmi_window_is_open(l1.vmcs02()));
    EXPECT_EQ(l1.nmis_in_l2, 1U);
}

TEST_P(Nmi, ThatIsBlockedInL1ComesAtTheIret) {
    l1.vmcs01().set(field::guest_interruptibility_state, bit::blocking_by_nmi);
    EXPECT_FALSE(l1.deliver_nmi());
    EXPECT_TRUE(nmi_window_is_open(l1.vmcs01()));
    l1.vmcs01().set(field::guest_interruptibility_state, 0);
    EXPECT_TRUE(l1.deliver_nmi());
    EXPECT_FALSE(nmi_window_is_open(l1.vmcs01()));
}

TEST_P(Nmi, ThatComesWhileAnotherWaitsIsTheSame) {
    l2_handles_an_nmi();
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::exception_or_nmi, .interruption = nmi}), l2_runs)
        << "L1 did not ask for it";
    EXPECT_TRUE(nmi_waits());
    EXPECT_TRUE(nmi_window_is_open(l1.vmcs02()));
    EXPECT_EQ(l1.vmcs02().get(field::guest_interruptibility_state), bit::blocking_by_nmi);
    ASSERT_EQ(l2_executes_iret(), l2_runs);
    EXPECT_EQ(l1.nmis_in_l2, 1U);
    EXPECT_FALSE(nmi_waits());
}

TEST_P(Nmi, ThatIsBlockedHidesNoExceptionOfL2s) {
    constexpr std::uint32_t general_protection_fault = 0x8000'0b0d;
    l1.write(field::exception_bitmap, 1U << 13);
    l2_handles_an_nmi();
    EXPECT_EQ(l1.l2_exits({.reason = ExitReason::exception_or_nmi, .interruption = general_protection_fault}),
              l1_sees(ExitReason::exception_or_nmi));
    EXPECT_EQ(l1.read(field::guest_interruptibility_state), bit::blocking_by_nmi);
    EXPECT_EQ(l1.read(field::pin_based_vm_execution_controls) & vmx::pin::nmi_exiting, 0U) << "what L1 wrote";
    EXPECT_TRUE(nmi_waits()) << "L1 has L2's blocking";
    EXPECT_TRUE(nmi_window_is_open(l1.vmcs01()));
    EXPECT_FALSE(nmi_window_is_open(l1.vmcs02()));
}

TEST_P(Nmi, WaitsForNoIretOfAGuestWhoseIretUnblocksNone) {
    use_nmi_exiting(false);
    l2_handles_an_nmi();
    EXPECT_EQ(l1.vmcs02().get(field::primary_processor_based_vm_execution_controls) &
                  (vmx::primary::nmi_window_exiting | vmx::primary::interrupt_window_exiting),
              0U)
        << "SDM 3C 26.3: with NMI exiting and no virtual NMIs IRET leaves NMIs blocked";
}

TEST_P(Nmi, OpensNoWindowInWhichL1sOwnNmiWouldBeRefused) {
    l1.write(field::guest_interruptibility_state, bit::blocking_by_nmi);
    l1.write(field::vm_entry_interruption_information, nmi);
    nmi_comes();
    ASSERT_EQ(l1.vmlaunch(), l2_runs) << "SDM 3C 27.3.1.5 refuses it with virtual NMIs only";
    EXPECT_EQ(l1.nmis_in_l2, 1U);
    EXPECT_TRUE(nmi_waits());
    ASSERT_EQ(l0_takes(), l2_runs);
    EXPECT_TRUE(nmi_window_is_open(l1.vmcs02()));
    ASSERT_EQ(l2_executes_iret(), l2_runs);
    EXPECT_EQ(l1.nmis_in_l2, 2U);
}

TEST(NmiWithoutVirtualNmis, WaitsForTheInterruptWindowOrTheNextExit) {
    VirtualCpu::Options options;
    options.hardware.pin_based.allowed1 &= ~vmx::pin::virtual_nmis;
    VirtualCpu l1{options};
    l1.prepare();
    l1.vmcs01().set(field::guest_interruptibility_state, bit::blocking_by_nmi);
    EXPECT_FALSE(l1.deliver_nmi());
    const auto primary = [&] {
        return l1.vmcs01().get(field::primary_processor_based_vm_execution_controls);
    };
    EXPECT_EQ(primary() & (vmx::primary::nmi_window_exiting | vmx::primary::interrupt_window_exiting), 0U);
    l1.vmcs01().set(field::guest_interruptibility_state, bit::blocking_by_mov_ss);
    EXPECT_FALSE(l1.deliver_nmi());
    EXPECT_EQ(primary() & (vmx::primary::nmi_window_exiting | vmx::primary::interrupt_window_exiting),
              vmx::primary::interrupt_window_exiting);
}

}  // namespace
}  // namespace flatback::nested_test::nmi_test
