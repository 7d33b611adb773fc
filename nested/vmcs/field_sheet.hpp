// What L0 does with each field of L1's VMCS: one row a field, and all else about it follows. Width and kind
// are in the encoding (vmx/field.hpp).
//
// To offer a feature, its fields' rows change from `unsupported`, and its controls are offered
// (nested/capabilities.hpp).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "../../vmx/capability.hpp"
#include "../../vmx/controls.hpp"
#include "../../vmx/field_table.hpp"

namespace flatback::nested {

enum class FieldHandling : std::uint8_t {
    unsupported,       // L1 was not promised it: VMREAD and VMWRITE fail with error 12
    kept,              // stored and given back; nothing of it reaches vmcs02
    direct_control,    // checked where the SDM says so, then the same in vmcs02
    composed_control,  // what vmcs02 gets is computed from it (nested/entry/compose.hpp, entry.hpp)
    guest_state,       // the same in vmcs02; the processor checks it on entry and saves it on exit
    host_state,        // becomes L1's state when L2 exits
    information,       // read-only to L1, where it was not promised to write any field
};

// What L1 must have been promised for the field to be there.
enum class FieldNeeds : std::uint8_t {
    always,
    vpid,
    xsaves,
    pause_loop_exiting,
    apic_accesses,
    tpr_shadow,
    virtual_interrupts,
    posted_interrupts,
    vmcs_shadowing,
    page_modification_log,
    tsc_scaling,
    preemption_timer,
    cr3_target_1,  // so many targets
    cr3_target_2,
    cr3_target_3,
    cr3_target_4,
};

// How L1 reaches the field where the processor shadows VMCSs, chosen by counting the VMREADs and VMWRITEs of
// Linux's KVM (docs/engine.md).
enum class FieldShadow : std::uint8_t {
    none,                // by an exit
    read,                // L0 reads it in vmcs02 at every exit that L1 will see, and writes what changed
    read_where_defined,  // the same, at the exits that define it
    written,             // L1 writes it without an exit; L0 looks at every entry
    read_and_written,
    written_with_event,  // L0 looks only where the interruption information is valid ...
    written_with_timer,  // ... or this control is in use
    written_with_tpr_shadow,
};

struct FieldRow {
    std::uint32_t encoding;
    FieldHandling handling;
    FieldNeeds needs;
    FieldShadow shadow;
};

namespace detail {
template <vmx::FieldWidth W, vmx::FieldKind K>
consteval FieldRow row(vmx::Field<W, K> field, FieldHandling handling, FieldNeeds needs = FieldNeeds::always,
                       FieldShadow shadow = FieldShadow::none) {
    return {field.encoding, handling, needs, shadow};
}
}  // namespace detail

// By dense index: in the order of the encodings, as vmx::all_fields.
// clang-format off
inline constexpr auto field_sheet = [] {
    namespace field = vmx::field;
    using detail::row;
    using enum FieldHandling;
    using enum FieldNeeds;
    using enum FieldShadow;
    return std::to_array<FieldRow>({
        // SDM B.1.1
        row(field::virtual_processor_identifier,                    composed_control, vpid,               written),
        row(field::posted_interrupt_notification_vector,            composed_control, posted_interrupts),
        row(field::eptp_index,                                      unsupported),
        // SDM B.1.2
        row(field::guest_es_selector,                               guest_state),
        row(field::guest_cs_selector,                               guest_state),
        row(field::guest_ss_selector,                               guest_state),
        row(field::guest_ds_selector,                               guest_state),
        row(field::guest_fs_selector,                               guest_state),
        row(field::guest_gs_selector,                               guest_state),
        row(field::guest_ldtr_selector,                             guest_state),
        row(field::guest_tr_selector,                               guest_state),
        row(field::guest_interrupt_status,                          guest_state,      virtual_interrupts),
        row(field::pml_index,                                       kept,             page_modification_log),
        // SDM B.1.3
        row(field::host_es_selector,                                host_state),
        row(field::host_cs_selector,                                host_state),
        row(field::host_ss_selector,                                host_state),
        row(field::host_ds_selector,                                host_state),
        row(field::host_fs_selector,                                host_state),
        row(field::host_gs_selector,                                host_state),
        row(field::host_tr_selector,                                host_state),
        // SDM B.2.1
        row(field::address_of_io_bitmap_a,                          composed_control),
        row(field::address_of_io_bitmap_b,                          composed_control),
        row(field::address_of_msr_bitmaps,                          composed_control),
        row(field::vm_exit_msr_store_address,                       composed_control),
        row(field::vm_exit_msr_load_address,                        composed_control),
        row(field::vm_entry_msr_load_address,                       composed_control),
        row(field::executive_vmcs_pointer,                          kept),
        row(field::pml_address,                                     composed_control, page_modification_log),
        row(field::tsc_offset,                                      direct_control),
        row(field::virtual_apic_address,                            composed_control, tpr_shadow),
        row(field::apic_access_address,                             composed_control, apic_accesses),
        row(field::posted_interrupt_descriptor_address,             composed_control, posted_interrupts),
        row(field::vm_function_controls,                            unsupported),
        row(field::ept_pointer,                                     composed_control),
        row(field::eoi_exit_bitmap_0,                               direct_control,   virtual_interrupts),
        row(field::eoi_exit_bitmap_1,                               direct_control,   virtual_interrupts),
        row(field::eoi_exit_bitmap_2,                               direct_control,   virtual_interrupts),
        row(field::eoi_exit_bitmap_3,                               direct_control,   virtual_interrupts),
        row(field::eptp_list_address,                               unsupported),
        row(field::vmread_bitmap_address,                           composed_control, vmcs_shadowing),
        row(field::vmwrite_bitmap_address,                          composed_control, vmcs_shadowing),
        row(field::virtualization_exception_information_address,    unsupported),
        row(field::xss_exiting_bitmap,                              direct_control,   xsaves),
        row(field::encls_exiting_bitmap,                            unsupported),
        row(field::tsc_multiplier,                                  composed_control, tsc_scaling),
        // SDM B.2.2
        row(field::guest_physical_address,                          information,      always,             read_where_defined),
        // SDM B.2.3
        row(field::vmcs_link_pointer,                               kept),
        row(field::guest_ia32_debugctl,                             guest_state),
        row(field::guest_ia32_pat,                                  guest_state),
        row(field::guest_ia32_efer,                                 guest_state),
        row(field::guest_ia32_perf_global_ctrl,                     unsupported),
        row(field::guest_pdpte0,                                    guest_state),
        row(field::guest_pdpte1,                                    guest_state),
        row(field::guest_pdpte2,                                    guest_state),
        row(field::guest_pdpte3,                                    guest_state),
        row(field::guest_ia32_bndcfgs,                              unsupported),
        // SDM B.2.4
        row(field::host_ia32_pat,                                   host_state),
        row(field::host_ia32_efer,                                  host_state),
        row(field::host_ia32_perf_global_ctrl,                      unsupported),
        // SDM B.3.1
        row(field::pin_based_vm_execution_controls,                 composed_control),
        row(field::primary_processor_based_vm_execution_controls,   composed_control, always,             written),
        row(field::exception_bitmap,                                direct_control),
        row(field::page_fault_error_code_mask,                      direct_control),
        row(field::page_fault_error_code_match,                     direct_control),
        row(field::cr3_target_count,                                direct_control),
        row(field::vm_exit_controls,                                composed_control),
        row(field::vm_exit_msr_store_count,                         composed_control),
        row(field::vm_exit_msr_load_count,                          composed_control),
        row(field::vm_entry_controls,                               composed_control),
        row(field::vm_entry_msr_load_count,                         composed_control),
        row(field::vm_entry_interruption_information,               direct_control,   always,             written),
        row(field::vm_entry_exception_error_code,                   direct_control,   always,             written_with_event),
        row(field::vm_entry_instruction_length,                     direct_control,   always,             written_with_event),
        row(field::tpr_threshold,                                   direct_control,   tpr_shadow,         written_with_tpr_shadow),
        row(field::secondary_processor_based_vm_execution_controls, composed_control),
        row(field::ple_gap,                                         direct_control,   pause_loop_exiting),
        row(field::ple_window,                                      direct_control,   pause_loop_exiting),
        // SDM B.3.2
        row(field::vm_instruction_error,                            information),
        row(field::exit_reason,                                     information,      always,             read),
        row(field::vm_exit_interruption_information,                information,      always,             read),
        row(field::vm_exit_interruption_error_code,                 information,      always,             read_where_defined),
        row(field::idt_vectoring_information,                       information,      always,             read),
        row(field::idt_vectoring_error_code,                        information,      always,             read_where_defined),
        row(field::vm_exit_instruction_length,                      information,      always,             read),
        row(field::vm_exit_instruction_information,                 information),
        // SDM B.3.3
        row(field::guest_es_limit,                                  guest_state),
        row(field::guest_cs_limit,                                  guest_state),
        row(field::guest_ss_limit,                                  guest_state),
        row(field::guest_ds_limit,                                  guest_state),
        row(field::guest_fs_limit,                                  guest_state),
        row(field::guest_gs_limit,                                  guest_state),
        row(field::guest_ldtr_limit,                                guest_state),
        row(field::guest_tr_limit,                                  guest_state),
        row(field::guest_gdtr_limit,                                guest_state),
        row(field::guest_idtr_limit,                                guest_state),
        row(field::guest_es_access_rights,                          guest_state),
        row(field::guest_cs_access_rights,                          guest_state,      always,             read),
        row(field::guest_ss_access_rights,                          guest_state,      always,             read),
        row(field::guest_ds_access_rights,                          guest_state),
        row(field::guest_fs_access_rights,                          guest_state),
        row(field::guest_gs_access_rights,                          guest_state),
        row(field::guest_ldtr_access_rights,                        guest_state),
        row(field::guest_tr_access_rights,                          guest_state),
        row(field::guest_interruptibility_state,                    guest_state,      always,             read_and_written),
        row(field::guest_activity_state,                            guest_state),
        row(field::guest_smbase,                                    kept),
        row(field::guest_ia32_sysenter_cs,                          guest_state),
        row(field::vmx_preemption_timer_value,                      guest_state,      preemption_timer,   written_with_timer),
        // SDM B.3.4
        row(field::host_ia32_sysenter_cs,                           host_state),
        // SDM B.4.1
        row(field::cr0_guest_host_mask,                             direct_control),
        row(field::cr4_guest_host_mask,                             composed_control),
        row(field::cr0_read_shadow,                                 direct_control),
        row(field::cr4_read_shadow,                                 composed_control),
        row(field::cr3_target_value_0,                              direct_control,   cr3_target_1),
        row(field::cr3_target_value_1,                              direct_control,   cr3_target_2),
        row(field::cr3_target_value_2,                              direct_control,   cr3_target_3),
        row(field::cr3_target_value_3,                              direct_control,   cr3_target_4),
        // SDM B.4.2
        row(field::exit_qualification,                              information,      always,             read),
        row(field::io_rcx,                                          information),
        row(field::io_rsi,                                          information),
        row(field::io_rdi,                                          information),
        row(field::io_rip,                                          information),
        row(field::guest_linear_address,                            information,      always,             read_where_defined),
        // SDM B.4.3
        row(field::guest_cr0,                                       guest_state),
        row(field::guest_cr3,                                       guest_state),
        row(field::guest_cr4,                                       guest_state),
        row(field::guest_es_base,                                   guest_state),
        row(field::guest_cs_base,                                   guest_state),
        row(field::guest_ss_base,                                   guest_state),
        row(field::guest_ds_base,                                   guest_state),
        row(field::guest_fs_base,                                   guest_state),
        row(field::guest_gs_base,                                   guest_state),
        row(field::guest_ldtr_base,                                 guest_state),
        row(field::guest_tr_base,                                   guest_state),
        row(field::guest_gdtr_base,                                 guest_state),
        row(field::guest_idtr_base,                                 guest_state),
        row(field::guest_dr7,                                       guest_state),
        row(field::guest_rsp,                                       guest_state,      always,             read_and_written),
        row(field::guest_rip,                                       guest_state,      always,             read_and_written),
        row(field::guest_rflags,                                    guest_state,      always,             read_and_written),
        row(field::guest_pending_debug_exceptions,                  guest_state),
        row(field::guest_ia32_sysenter_esp,                         guest_state),
        row(field::guest_ia32_sysenter_eip,                         guest_state),
        // SDM B.4.4
        row(field::host_cr0,                                        host_state),
        row(field::host_cr3,                                        host_state),
        row(field::host_cr4,                                        host_state),
        row(field::host_fs_base,                                    host_state),
        row(field::host_gs_base,                                    host_state),
        row(field::host_tr_base,                                    host_state),
        row(field::host_gdtr_base,                                  host_state),
        row(field::host_idtr_base,                                  host_state),
        row(field::host_ia32_sysenter_esp,                          host_state),
        row(field::host_ia32_sysenter_eip,                          host_state),
        row(field::host_rsp,                                        host_state,       always,             written),
        row(field::host_rip,                                        host_state),
    });
}();
// clang-format on

static_assert([] {
    if (field_sheet.size() != vmx::field_count) return false;
    for (std::size_t i = 0; i < vmx::field_count; ++i) {
        if (field_sheet[i].encoding != vmx::all_fields[i].encoding) return false;
    }
    return true;
}());

// By dense index.
inline constexpr auto field_handling = [] {
    std::array<FieldHandling, vmx::field_count> table{};
    for (std::size_t i = 0; i < vmx::field_count; ++i) table[i] = field_sheet[i].handling;
    return table;
}();

[[nodiscard]] constexpr bool has_what_it_needs(FieldNeeds needs, const vmx::Capabilities& promised) {
    const auto& secondary = promised.secondary_processor_based;
    switch (needs) {
        case FieldNeeds::always:
            return true;
        case FieldNeeds::vpid:
            return secondary.may_set(vmx::secondary::enable_vpid);
        case FieldNeeds::xsaves:
            return secondary.may_set(vmx::secondary::enable_xsaves_xrstors);
        case FieldNeeds::pause_loop_exiting:
            return secondary.may_set(vmx::secondary::pause_loop_exiting);
        case FieldNeeds::apic_accesses:
            return secondary.may_set(vmx::secondary::virtualize_apic_accesses);
        case FieldNeeds::tpr_shadow:
            return promised.primary_processor_based.may_set(vmx::primary::use_tpr_shadow);
        case FieldNeeds::virtual_interrupts:
            return secondary.may_set(vmx::secondary::virtual_interrupt_delivery);
        case FieldNeeds::posted_interrupts:
            return promised.pin_based.may_set(vmx::pin::process_posted_interrupts);
        case FieldNeeds::vmcs_shadowing:
            return secondary.may_set(vmx::secondary::vmcs_shadowing);
        case FieldNeeds::page_modification_log:
            return secondary.may_set(vmx::secondary::enable_pml);
        case FieldNeeds::tsc_scaling:
            return secondary.may_set(vmx::secondary::use_tsc_scaling);
        case FieldNeeds::preemption_timer:
            return promised.pin_based.may_set(vmx::pin::activate_vmx_preemption_timer);
        case FieldNeeds::cr3_target_1:
            return promised.misc.cr3_target_count() > 0;
        case FieldNeeds::cr3_target_2:
            return promised.misc.cr3_target_count() > 1;
        case FieldNeeds::cr3_target_3:
            return promised.misc.cr3_target_count() > 2;
        case FieldNeeds::cr3_target_4:
            return promised.misc.cr3_target_count() > 3;
    }
    return false;
}

}  // namespace flatback::nested
