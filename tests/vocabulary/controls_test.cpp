// Control bits, exit reasons and error numbers against numbers written by hand from the manual.
#include "vmx/controls.hpp"

#include <gtest/gtest.h>

#include "vmx/exit_reason.hpp"
#include "vmx/instruction_error.hpp"

namespace flatback::vmx::controls_test {
namespace {

TEST(ControlBits, HaveThePositionsOfTheManual) {
    EXPECT_EQ(pin::nmi_exiting, 0x8u);
    EXPECT_EQ(pin::virtual_nmis, 0x20u);
    EXPECT_EQ(pin::activate_vmx_preemption_timer, 0x40u);
    EXPECT_EQ(primary::interrupt_window_exiting, 0x4u);
    EXPECT_EQ(primary::hlt_exiting, 0x80u);
    EXPECT_EQ(primary::cr3_load_exiting, 0x8000u);
    EXPECT_EQ(primary::use_tpr_shadow, 0x20'0000u);
    EXPECT_EQ(primary::use_io_bitmaps, 0x200'0000u);
    EXPECT_EQ(primary::use_msr_bitmaps, 0x1000'0000u);
    EXPECT_EQ(primary::activate_secondary_controls, 0x8000'0000u);
    EXPECT_EQ(secondary::enable_ept, 0x2u);
    EXPECT_EQ(secondary::enable_vpid, 0x20u);
    EXPECT_EQ(secondary::unrestricted_guest, 0x80u);
    EXPECT_EQ(secondary::vmcs_shadowing, 0x4000u);
    EXPECT_EQ(secondary::enable_pml, 0x2'0000u);
    EXPECT_EQ(secondary::use_tsc_scaling, 0x200'0000u);
    EXPECT_EQ(exit_control::host_address_space_size, 0x200u);
    EXPECT_EQ(exit_control::acknowledge_interrupt_on_exit, 0x8000u);
    EXPECT_EQ(exit_control::load_ia32_efer, 0x20'0000u);
    EXPECT_EQ(exit_control::clear_ia32_bndcfgs, 0x80'0000u);
    EXPECT_EQ(entry_control::ia32e_mode_guest, 0x200u);
    EXPECT_EQ(entry_control::load_ia32_efer, 0x8000u);
    EXPECT_EQ(entry_control::load_ia32_bndcfgs, 0x1'0000u);
}

TEST(ControlBits, DefaultOneClassesAreThoseOfAppendixA) {
    const auto bits = [](std::initializer_list<unsigned> positions) {
        std::uint32_t value = 0;
        for (const unsigned position : positions) value |= 1u << position;
        return value;
    };
    EXPECT_EQ(pin::default1, bits({1, 2, 4}));
    EXPECT_EQ(primary::default1, bits({1, 4, 5, 6, 8, 13, 14, 15, 16, 26}));
    EXPECT_EQ(exit_control::default1, bits({0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 14, 16, 17}));
    EXPECT_EQ(entry_control::default1, bits({0, 1, 2, 3, 4, 5, 6, 7, 8, 12}));
}

TEST(ExitReason, HasTheNumbersOfAppendixC) {
    EXPECT_EQ(static_cast<int>(ExitReason::cpuid), 10);
    EXPECT_EQ(static_cast<int>(ExitReason::vmcall), 18);
    EXPECT_EQ(static_cast<int>(ExitReason::vmxon), 27);
    EXPECT_EQ(static_cast<int>(ExitReason::control_register_access), 28);
    EXPECT_EQ(static_cast<int>(ExitReason::io_instruction), 30);
    EXPECT_EQ(static_cast<int>(ExitReason::entry_failure_guest_state), 33);
    EXPECT_EQ(static_cast<int>(ExitReason::monitor_trap_flag), 37);
    EXPECT_EQ(static_cast<int>(ExitReason::tpr_below_threshold), 43);
    EXPECT_EQ(static_cast<int>(ExitReason::ept_violation), 48);
    EXPECT_EQ(static_cast<int>(ExitReason::invept), 50);
    EXPECT_EQ(static_cast<int>(ExitReason::vmx_preemption_timer_expired), 52);
    EXPECT_EQ(static_cast<int>(ExitReason::invvpid), 53);
    EXPECT_EQ(static_cast<int>(ExitReason::vmfunc), 59);
    EXPECT_EQ(static_cast<int>(ExitReason::page_modification_log_full), 62);
}

TEST(ExitReason, NamesEachReasonAndNoGap) {
    EXPECT_EQ(name_of(ExitReason::cpuid), "CPUID");
    EXPECT_EQ(name_of(ExitReason::vmwrite), "VMWRITE");
    EXPECT_EQ(name_of(ExitReason::mwait), "MWAIT");
    EXPECT_EQ(name_of(ExitReason::monitor), "MONITOR");
    EXPECT_EQ(name_of(ExitReason::apic_access), "APIC access");
    EXPECT_EQ(name_of(ExitReason::invept), "INVEPT");
    EXPECT_EQ(name_of(ExitReason::xsetbv), "XSETBV");
    EXPECT_EQ(name_of(ExitReason::encls), "ENCLS");
    EXPECT_EQ(name_of(ExitReason::loadiwkey), "LOADIWKEY");
    for (const int gap : {35, 38, 42, 70, 0xffff})
        EXPECT_EQ(name_of(static_cast<ExitReason>(gap)), "?") << gap;
}

TEST(ExitReason, FieldTellsAFailedEntryByBitThirtyOne) {
    constexpr auto failure = ExitReasonField::entry_failure(ExitReason::entry_failure_guest_state);
    EXPECT_EQ(failure.value, 0x8000'0021u);
    EXPECT_TRUE(failure.is_entry_failure());
    EXPECT_EQ(failure.basic(), ExitReason::entry_failure_guest_state);
    EXPECT_FALSE(ExitReasonField{10}.is_entry_failure());
    EXPECT_EQ(ExitReasonField{0x0800'000a}.basic(), ExitReason::cpuid);
}

TEST(InstructionError, HasTheNumbersOfTheManual) {
    EXPECT_EQ(static_cast<int>(InstructionError::vmclear_with_vmxon_pointer), 3);
    EXPECT_EQ(static_cast<int>(InstructionError::vmlaunch_with_non_clear_vmcs), 4);
    EXPECT_EQ(static_cast<int>(InstructionError::vmresume_with_non_launched_vmcs), 5);
    EXPECT_EQ(static_cast<int>(InstructionError::entry_with_invalid_control_fields), 7);
    EXPECT_EQ(static_cast<int>(InstructionError::entry_with_invalid_host_state_fields), 8);
    EXPECT_EQ(static_cast<int>(InstructionError::vmptrld_with_incorrect_vmcs_revision_identifier), 11);
    EXPECT_EQ(static_cast<int>(InstructionError::vmread_vmwrite_with_unsupported_vmcs_component), 12);
    EXPECT_EQ(static_cast<int>(InstructionError::vmwrite_to_read_only_vmcs_component), 13);
    EXPECT_EQ(static_cast<int>(InstructionError::vmxon_in_vmx_root_operation), 15);
    EXPECT_EQ(static_cast<int>(InstructionError::entry_with_events_blocked_by_mov_ss), 26);
    EXPECT_EQ(static_cast<int>(InstructionError::invalid_operand_to_invept_invvpid), 28);
    EXPECT_EQ(name_of(InstructionError::invalid_operand_to_invept_invvpid),
              "Invalid operand to INVEPT/INVVPID");
    for (const unsigned gap : {0u, 14u, 21u, 27u, 29u}) {
        EXPECT_EQ(name_of(static_cast<InstructionError>(gap)), "?") << gap;
    }
}

}  // namespace
}  // namespace flatback::vmx::controls_test
