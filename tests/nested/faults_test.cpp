// Faults that L0 gives a guest in the processor's place, and deliveries that its own exits interrupt.
#include <gtest/gtest.h>

#include "nested/events.hpp"
#include "tests/nested/ept12.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "vmx/exit_qualification.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"

namespace flatback::nested_test::faults_test {
namespace {

constexpr std::uint32_t external_30 = 0x8000'0030;
constexpr std::uint32_t int_30 = 0x8000'0430;
constexpr std::uint32_t general_protection_event = 0x8000'0b0d;
constexpr std::uint32_t page_fault_event = 0x8000'0b0e;
constexpr std::uint32_t double_fault_event = 0x8000'0b08;
constexpr std::uint32_t valid = vmx::InterruptionInformation::valid_bit;
constexpr std::uint64_t single_step = vmx::pending_debug::single_step;
constexpr std::uint32_t vector_bit(x86::Vector vector) {
    return 1U << static_cast<unsigned>(vector);
}

class Faults : public ::testing::TestWithParam<bool> {
protected:
    Faults() { l1.prepare(); }
    void launch() { ASSERT_EQ(l1.vmlaunch(), l2_runs); }
    Outcome l0_takes(L2Exit exit = {}) {
        exit.reason = ExitReason::ept_violation;
        return l1.l2_exits(exit);
    }
    // L2 reaches beyond all memory: L0 raises #GP.
    Outcome l0_faults(L2Exit exit = {}) {
        l1.port.ept01_grants = false;
        return l0_takes(exit);
    }
    // L1's exit came while the event was being delivered.
    void l1_was_delivering(std::uint32_t event) {
        l1.vmcs01().set(field::vm_entry_interruption_information, 0);
        l1.vmcs01().set(field::idt_vectoring_information, event);
        l1.inject_general_protection();
    }
    VirtualCpu l1{{.shadow_vmcs = GetParam(), .hardware = processor_for(GetParam())}};
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, Faults, ::testing::Bool());

// --- of L1

TEST_P(Faults, OfL1InADeliveryBecomeADoubleFaultAndThenShutdown) {
    l1.port.shutdown_returns = true;
    l1_was_delivering(external_30);
    EXPECT_EQ(l1.vmcs01().get(field::vm_entry_interruption_information), general_protection_event);
    EXPECT_EQ(l1.vmcs01().get(field::vm_entry_exception_error_code), 1U)
        << "EXT: nothing of L1's asked for it";
    l1_was_delivering(int_30);
    EXPECT_EQ(l1.vmcs01().get(field::vm_entry_exception_error_code), 0U);
    for (const std::uint32_t first : {general_protection_event, page_fault_event}) {
        l1_was_delivering(first);
        EXPECT_EQ(l1.vmcs01().get(field::vm_entry_interruption_information), double_fault_event);
        EXPECT_EQ(l1.vmcs01().get(field::vm_entry_exception_error_code), 0U);
    }
    EXPECT_EQ(l1.port.shutdowns, 0U);
    l1_was_delivering(double_fault_event);
    EXPECT_EQ(l1.port.shutdowns, 1U);
    EXPECT_EQ(l1.vmcs01().get(field::vm_entry_interruption_information) & valid, 0U);
}

TEST_P(Faults, SaveTheResumeFlag) {
    l1.inject_general_protection();
    EXPECT_NE(l1.vmcs01().get(field::guest_rflags) & x86::rflags::resume, 0U);
    launch();
    ASSERT_EQ(l0_faults(), l2_runs);
    EXPECT_NE(l1.vmcs02().get(field::guest_rflags) & x86::rflags::resume, 0U);
}

// --- of L2

TEST_P(Faults, OfL2GoToL1WhereItInterceptsThem) {
    l1.write(field::exception_bitmap, vector_bit(x86::Vector::general_protection));
    launch();
    ASSERT_EQ(l0_faults(), l1_sees(ExitReason::exception_or_nmi));
    EXPECT_EQ(l1.read(field::vm_exit_interruption_information), general_protection_event);
    EXPECT_EQ(l1.read(field::vm_exit_interruption_error_code), 0U);
    EXPECT_EQ(l1.read(field::exit_qualification), 0U);
    EXPECT_NE(l1.read(field::guest_rflags) & x86::rflags::resume, 0U) << "as the image would have it";
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.injected() & valid, 0U);
    // An exception that L1 intercepts exits before it can become a double fault.
    ASSERT_EQ(l0_faults({.vectoring = page_fault_event, .vectoring_error_code = 2}),
              l1_sees(ExitReason::exception_or_nmi));
    EXPECT_EQ(l1.read(field::idt_vectoring_information), page_fault_event);
    EXPECT_EQ(l1.read(field::idt_vectoring_error_code), 2U);
}

TEST_P(Faults, OfL2InADeliveryBecomeADoubleFault) {
    launch();
    ASSERT_EQ(l0_faults({.vectoring = external_30}), l2_runs);
    EXPECT_EQ(l1.injected(), general_protection_event) << "an interrupt and a fault come one after the other";
    ASSERT_EQ(l0_faults({.vectoring = general_protection_event}), l2_runs);
    EXPECT_EQ(l1.injected(), double_fault_event);
    ASSERT_EQ(l0_faults({.vectoring = double_fault_event}), l1_sees(ExitReason::triple_fault));
    EXPECT_EQ(l1.read(field::idt_vectoring_information) & valid, 0U);
}

TEST_P(Faults, ADoubleFaultOfL2GoesToL1WhereItInterceptsThat) {
    l1.write(field::exception_bitmap, vector_bit(x86::Vector::double_fault));
    launch();
    ASSERT_EQ(l0_faults({.vectoring = page_fault_event}), l1_sees(ExitReason::exception_or_nmi));
    EXPECT_EQ(l1.read(field::vm_exit_interruption_information), double_fault_event);
    EXPECT_EQ(l1.read(field::idt_vectoring_information) & valid, 0U);
}

// --- deliveries that L0 interrupts

TEST_P(Faults, ThatAreDeliveredAgainInRealModeHaveNoErrorCode) {
    l1.use_secondary(vmx::secondary::unrestricted_guest);
    l1.write(field::guest_cr0, 0x30);
    l1.lower(field::vm_entry_controls, vmx::entry_control::ia32e_mode_guest);
    l1.write(field::guest_ia32_efer, 0);
    l1.write(field::guest_cr4, 0x2600);
    l1.write(field::guest_rip, 0x7c00);
    for (std::uint32_t n = 0; n < 6; ++n) {
        l1.write_raw(field::guest_es_selector.encoding + 2 * n, 0);
        l1.write_raw(field::guest_es_limit.encoding + 2 * n, 0xffff);
        l1.write_raw(field::guest_es_access_rights.encoding + 2 * n, n == 1 ? 0x9b : 0x93);
    }
    Ept12 ept{l1};
    ept.map(0, 0x1000'0000, 7 | Ept12::write_back, 2);
    l1.use_ept(ept.eptp());
    ASSERT_EQ(l1.vmlaunch(), l2_runs) << l1.refused_rule;
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation,
                           .qualification = 0x181,
                           .vectoring = general_protection_event,
                           .vectoring_error_code = 0}),
              l2_runs)
        << l1.refused_rule;
    EXPECT_EQ(l1.injected(), 0x8000'030dU);
}

TEST_P(Faults, AnAccessThatL0LetsL2RepeatLeavesNoSingleStepTrap) {
    launch();
    FakeVmcs& v = l1.vmcs02();
    v.set(field::guest_pending_debug_exceptions, single_step);
    ASSERT_EQ(l0_takes(), l2_runs);
    EXPECT_EQ(v.get(field::guest_pending_debug_exceptions), 0U);
    // With MOV SS blocking it is the MOV's own, and the next entry wants it.
    v.set(field::guest_rflags, 0x302);
    v.set(field::guest_interruptibility_state, vmx::interruptibility::blocking_by_mov_ss);
    v.set(field::guest_pending_debug_exceptions, single_step | 1);
    ASSERT_EQ(l0_takes(), l2_runs);
    EXPECT_EQ(v.get(field::guest_pending_debug_exceptions), single_step | 1);
}

// An access of L1's for which the host changed EPT01.
TEST_P(Faults, ADeliveryOfL1sThatTheHostInterruptedBeginsAgain) {
    FakeVmcs& v = l1.vmcs01();
    v.set(field::idt_vectoring_information, page_fault_event);
    v.set(field::idt_vectoring_error_code, 2);
    v.set(field::guest_pending_debug_exceptions, single_step);
    v.set(field::exit_qualification, vmx::EptViolation::read | vmx::EptViolation::nmi_unblocking_by_iret);
    l1.retry_l1();
    EXPECT_EQ(v.get(field::vm_entry_interruption_information), page_fault_event);
    EXPECT_EQ(v.get(field::vm_entry_exception_error_code), 2U);
    EXPECT_EQ(v.get(field::guest_pending_debug_exceptions), 0U);
    EXPECT_EQ(v.get(field::guest_interruptibility_state), 0U);
    v.set(field::idt_vectoring_information, 0);
    l1.retry_l1();
    EXPECT_EQ(v.get(field::guest_interruptibility_state), vmx::interruptibility::blocking_by_nmi)
        << "its IRET did not complete";
}

TEST_P(Faults, AFaultLeavesNoSingleStepTrap) {
    l1.vmcs01().set(field::guest_pending_debug_exceptions, single_step);
    l1.inject_general_protection();
    EXPECT_EQ(l1.vmcs01().get(field::guest_pending_debug_exceptions), 0U);
}

// --- SDM 3A table 6-5

TEST(Combine, FollowsTheTable) {
    using nested::combine;
    using nested::Combined;
    const auto after = [](x86::Vector first, x86::Vector second) {
        return combine(vmx::InterruptionInformation::exception(first), static_cast<std::uint8_t>(second));
    };
    using enum x86::Vector;
    EXPECT_EQ(after(divide_error, general_protection), Combined::double_fault);
    EXPECT_EQ(after(stack_fault, page_fault), Combined::the_exception);
    EXPECT_EQ(after(page_fault, page_fault), Combined::double_fault);
    EXPECT_EQ(after(page_fault, general_protection), Combined::double_fault);
    EXPECT_EQ(after(page_fault, invalid_opcode), Combined::the_exception);
    EXPECT_EQ(after(invalid_opcode, general_protection), Combined::the_exception);
    EXPECT_EQ(after(double_fault, page_fault), Combined::shutdown);
    EXPECT_EQ(after(breakpoint, general_protection), Combined::the_exception);
    EXPECT_EQ(combine({int_30}, 13), Combined::the_exception);
    EXPECT_EQ(combine({}, 13), Combined::the_exception);
}

// The host intercepted it for a reason of its own.
TEST_P(Faults, AnExceptionThatOnlyTheHostAskedForIsTheGuests) {
    launch();
    FakeVmcs& v = l1.vmcs02();
    EXPECT_EQ(l1.l2_meets_exception_for_the_host({.reason = ExitReason::exception_or_nmi,
                                                  .qualification = 0x1234'5678,
                                                  .interruption = page_fault_event,
                                                  .error_code = 6}),
              l2_runs);
    EXPECT_EQ(v.get(field::vm_entry_interruption_information), page_fault_event);
    EXPECT_EQ(v.get(field::vm_entry_exception_error_code), 6U);
    EXPECT_EQ(l1.port.cr2, 0x1234'5678U);
    EXPECT_EQ(l1.l2_meets_exception_for_the_host({.reason = ExitReason::exception_or_nmi,
                                                  .interruption = general_protection_event,
                                                  .vectoring = page_fault_event}),
              l2_runs);
    EXPECT_EQ(v.get(field::vm_entry_interruption_information), double_fault_event);
    EXPECT_EQ(l1.l2_meets_exception_for_the_host({.reason = ExitReason::exception_or_nmi,
                                                  .interruption = general_protection_event,
                                                  .vectoring = double_fault_event}),
              l1_sees(ExitReason::triple_fault));
}

// SDM 3A 6.13: EXT is of error codes that name a selector; of a page fault bit 0 says "present".
TEST_P(Faults, OnlyAnErrorCodeOfASelectorTellsOfAnExternalEvent) {
    launch();
    const auto code_with = [&](std::uint32_t event, std::uint32_t vectoring) {
        EXPECT_EQ(l1.l2_meets_exception_for_the_host({.reason = ExitReason::exception_or_nmi,
                                                      .interruption = event,
                                                      .error_code = 0x58,
                                                      .vectoring = vectoring}),
                  l2_runs);
        EXPECT_EQ(l1.injected(), event);
        return l1.vmcs02().get(field::vm_entry_exception_error_code);
    };
    constexpr std::uint32_t int_80 = 0x8000'0480;
    constexpr std::uint32_t alignment_check_event = 0x8000'0b11;
    EXPECT_EQ(code_with(general_protection_event, 0), 0x58U);
    EXPECT_EQ(code_with(general_protection_event, external_30), 0x59U);
    EXPECT_EQ(code_with(general_protection_event, int_80), 0x58U);
    EXPECT_EQ(code_with(page_fault_event, external_30), 0x58U);
    EXPECT_EQ(code_with(alignment_check_event, external_30), 0x58U);
}

}  // namespace
}  // namespace flatback::nested_test::faults_test
