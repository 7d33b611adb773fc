// VM-instruction error numbers (SDM 3C table 31-1): what VMfailValid stores into the current VMCS.
#pragma once

#include <cstdint>
#include <string_view>

namespace flatback::vmx {

// clang-format off
enum class InstructionError : std::uint32_t {
    vmcall_in_vmx_root_operation                          = 1,
    vmclear_with_invalid_physical_address                 = 2,
    vmclear_with_vmxon_pointer                            = 3,
    vmlaunch_with_non_clear_vmcs                          = 4,
    vmresume_with_non_launched_vmcs                       = 5,
    vmresume_after_vmxoff                                 = 6,
    entry_with_invalid_control_fields                     = 7,
    entry_with_invalid_host_state_fields                  = 8,
    vmptrld_with_invalid_physical_address                 = 9,
    vmptrld_with_vmxon_pointer                            = 10,
    vmptrld_with_incorrect_vmcs_revision_identifier       = 11,
    vmread_vmwrite_with_unsupported_vmcs_component        = 12,
    vmwrite_to_read_only_vmcs_component                   = 13,
    vmxon_in_vmx_root_operation                           = 15,
    entry_with_invalid_executive_vmcs_pointer             = 16,
    entry_with_non_launched_executive_vmcs                = 17,
    entry_with_executive_vmcs_pointer_not_vmxon_pointer   = 18,
    vmcall_with_non_clear_vmcs                            = 19,
    vmcall_with_invalid_vm_exit_control_fields            = 20,
    vmcall_with_incorrect_mseg_revision_identifier        = 22,
    vmxoff_under_dual_monitor_treatment                   = 23,
    vmcall_with_invalid_smm_monitor_features              = 24,
    entry_with_invalid_execution_controls_in_executive_vmcs = 25,
    entry_with_events_blocked_by_mov_ss                   = 26,
    invalid_operand_to_invept_invvpid                     = 28,
};
// clang-format on

// "?" for a number that is no VM-instruction error.
[[nodiscard]] constexpr std::string_view name_of(InstructionError error) {
    switch (error) {
        using enum InstructionError;
        // clang-format off
        case vmcall_in_vmx_root_operation: return "VMCALL executed in VMX root operation";
        case vmclear_with_invalid_physical_address: return "VMCLEAR with invalid physical address";
        case vmclear_with_vmxon_pointer: return "VMCLEAR with VMXON pointer";
        case vmlaunch_with_non_clear_vmcs: return "VMLAUNCH with non-clear VMCS";
        case vmresume_with_non_launched_vmcs: return "VMRESUME with non-launched VMCS";
        case vmresume_after_vmxoff: return "VMRESUME after VMXOFF";
        case entry_with_invalid_control_fields: return "VM entry with invalid control field(s)";
        case entry_with_invalid_host_state_fields: return "VM entry with invalid host-state field(s)";
        case vmptrld_with_invalid_physical_address: return "VMPTRLD with invalid physical address";
        case vmptrld_with_vmxon_pointer: return "VMPTRLD with VMXON pointer";
        case vmptrld_with_incorrect_vmcs_revision_identifier: return "VMPTRLD with incorrect VMCS revision identifier";
        case vmread_vmwrite_with_unsupported_vmcs_component: return "VMREAD/VMWRITE from/to unsupported VMCS component";
        case vmwrite_to_read_only_vmcs_component: return "VMWRITE to read-only VMCS component";
        case vmxon_in_vmx_root_operation: return "VMXON executed in VMX root operation";
        case entry_with_invalid_executive_vmcs_pointer: return "VM entry with invalid executive-VMCS pointer";
        case entry_with_non_launched_executive_vmcs: return "VM entry with non-launched executive VMCS";
        case entry_with_executive_vmcs_pointer_not_vmxon_pointer: return "VM entry with executive-VMCS pointer not VMXON pointer";
        case vmcall_with_non_clear_vmcs: return "VMCALL with non-clear VMCS";
        case vmcall_with_invalid_vm_exit_control_fields: return "VMCALL with invalid VM-exit control fields";
        case vmcall_with_incorrect_mseg_revision_identifier: return "VMCALL with incorrect MSEG revision identifier";
        case vmxoff_under_dual_monitor_treatment: return "VMXOFF under dual-monitor treatment of SMIs and SMM";
        case vmcall_with_invalid_smm_monitor_features: return "VMCALL with invalid SMM-monitor features";
        case entry_with_invalid_execution_controls_in_executive_vmcs: return "VM entry with invalid VM-execution control fields in executive VMCS";
        case entry_with_events_blocked_by_mov_ss: return "VM entry with events blocked by MOV SS";
        case invalid_operand_to_invept_invvpid: return "Invalid operand to INVEPT/INVVPID";
            // clang-format on
    }
    return "?";
}

}  // namespace flatback::vmx
