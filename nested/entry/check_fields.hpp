// Which fields of the VMCS each rule of VM entry is about: with their values they say why it is broken.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "../../vmx/field.hpp"
#include "checks_table.hpp"

namespace flatback::nested {

namespace detail {

struct EntryCheckFields {
    static constexpr std::size_t most = 12;
    EntryCheck check{};
    std::size_t count = 0;
    std::array<std::uint32_t, most> encodings{};

    constexpr EntryCheckFields(EntryCheck of, auto... fields)
        : check{of}, count{sizeof...(fields)}, encodings{fields.encoding...} {}
};

// clang-format off
inline constexpr auto entry_check_fields = [] {
    using enum EntryCheck;
    namespace field = vmx::field;
    return std::to_array<EntryCheckFields>({
        {pin_based_reserved_bits, field::pin_based_vm_execution_controls},
        {primary_processor_based_reserved_bits, field::primary_processor_based_vm_execution_controls},
        {secondary_processor_based_reserved_bits, field::secondary_processor_based_vm_execution_controls},
        {cr3_target_count_within_limit, field::cr3_target_count},
        {io_bitmap_a_address, field::address_of_io_bitmap_a},
        {io_bitmap_b_address, field::address_of_io_bitmap_b},
        {msr_bitmap_address, field::address_of_msr_bitmaps},
        {virtual_apic_address, field::virtual_apic_address},
        {tpr_threshold_reserved_bits, field::tpr_threshold},
        {tpr_threshold_not_above_virtual_tpr, field::tpr_threshold, field::virtual_apic_address},
        {virtual_nmis_need_nmi_exiting, field::pin_based_vm_execution_controls},
        {nmi_window_exiting_needs_virtual_nmis, field::pin_based_vm_execution_controls, field::primary_processor_based_vm_execution_controls},
        {apic_access_address, field::apic_access_address},
        {virtualize_x2apic_mode_needs_tpr_shadow, field::primary_processor_based_vm_execution_controls, field::secondary_processor_based_vm_execution_controls},
        {apic_register_virtualization_needs_tpr_shadow, field::primary_processor_based_vm_execution_controls, field::secondary_processor_based_vm_execution_controls},
        {virtual_interrupt_delivery_needs_tpr_shadow, field::primary_processor_based_vm_execution_controls, field::secondary_processor_based_vm_execution_controls},
        {virtualize_x2apic_mode_excludes_apic_accesses, field::secondary_processor_based_vm_execution_controls},
        {virtual_interrupt_delivery_needs_external_interrupt_exiting, field::pin_based_vm_execution_controls, field::secondary_processor_based_vm_execution_controls},
        {posted_interrupts_need_virtual_interrupt_delivery, field::pin_based_vm_execution_controls, field::secondary_processor_based_vm_execution_controls},
        {posted_interrupts_need_acknowledge_on_exit, field::pin_based_vm_execution_controls, field::vm_exit_controls},
        {posted_interrupt_vector, field::posted_interrupt_notification_vector},
        {posted_interrupt_descriptor_address, field::posted_interrupt_descriptor_address},
        {vpid_not_zero, field::virtual_processor_identifier},
        {ept_pointer, field::ept_pointer},
        {pml_needs_ept, field::secondary_processor_based_vm_execution_controls},
        {pml_address, field::pml_address},
        {unrestricted_guest_needs_ept, field::secondary_processor_based_vm_execution_controls},
        {mode_based_execute_control_needs_ept, field::secondary_processor_based_vm_execution_controls},
        {vm_function_reserved_bits, field::vm_function_controls},
        {eptp_switching_needs_ept, field::secondary_processor_based_vm_execution_controls, field::vm_function_controls},
        {eptp_list_address, field::eptp_list_address},
        {vmread_bitmap_address, field::vmread_bitmap_address},
        {vmwrite_bitmap_address, field::vmwrite_bitmap_address},
        {virtualization_exception_address, field::virtualization_exception_information_address},
        {tsc_multiplier_not_zero, field::tsc_multiplier},
        {exit_reserved_bits, field::vm_exit_controls},
        {save_preemption_timer_needs_timer, field::pin_based_vm_execution_controls, field::vm_exit_controls},
        {exit_msr_store_area, field::vm_exit_msr_store_count, field::vm_exit_msr_store_address},
        {exit_msr_load_area, field::vm_exit_msr_load_count, field::vm_exit_msr_load_address},
        {entry_reserved_bits, field::vm_entry_controls},
        {injection_type, field::vm_entry_interruption_information},
        {injection_vector, field::vm_entry_interruption_information},
        {injection_error_code_wanted, field::vm_entry_interruption_information, field::guest_cr0},
        {injection_error_code_unwanted, field::vm_entry_interruption_information, field::guest_cr0},
        {injection_reserved_bits, field::vm_entry_interruption_information},
        {injection_error_code_bits, field::vm_entry_interruption_information, field::vm_entry_exception_error_code},
        {injection_instruction_length, field::vm_entry_interruption_information, field::vm_entry_instruction_length},
        {entry_msr_load_area, field::vm_entry_msr_load_count, field::vm_entry_msr_load_address},
        {entry_to_smm_outside_smm, field::vm_entry_controls},
        {entry_to_smm_excludes_dual_monitor_deactivation, field::vm_entry_controls},
        {host_cr0_fixed_bits, field::host_cr0},
        {host_cr4_fixed_bits, field::host_cr4},
        {host_cet_needs_write_protect, field::host_cr4, field::host_cr0},
        {host_cr3_width, field::host_cr3},
        {host_sysenter_esp_canonical, field::host_ia32_sysenter_esp},
        {host_sysenter_eip_canonical, field::host_ia32_sysenter_eip},
        {host_perf_global_ctrl_reserved_bits, field::host_ia32_perf_global_ctrl},
        {host_pat_memory_types, field::host_ia32_pat},
        {host_efer_reserved_bits, field::host_ia32_efer},
        {host_efer_matches_address_space_size, field::host_ia32_efer, field::vm_exit_controls},
        {host_selector_rpl_and_ti, field::host_es_selector, field::host_cs_selector, field::host_ss_selector, field::host_ds_selector, field::host_fs_selector, field::host_gs_selector, field::host_tr_selector},
        {host_cs_selector_not_null, field::host_cs_selector},
        {host_tr_selector_not_null, field::host_tr_selector},
        {host_ss_selector_not_null, field::host_ss_selector, field::vm_exit_controls},
        {host_fs_base_canonical, field::host_fs_base},
        {host_gs_base_canonical, field::host_gs_base},
        {host_gdtr_base_canonical, field::host_gdtr_base},
        {host_idtr_base_canonical, field::host_idtr_base},
        {host_tr_base_canonical, field::host_tr_base},
        {ia32e_guest_needs_ia32e_processor, field::vm_entry_controls},
        {host_address_space_size_matches_processor, field::vm_exit_controls, field::vm_entry_controls},
        {host_pcid_needs_64_bit_host, field::host_cr4, field::vm_exit_controls},
        {host_rip_high_bits, field::host_rip, field::vm_exit_controls},
        {host_64_bit_needs_pae, field::host_cr4, field::vm_exit_controls},
        {host_rip_canonical, field::host_rip},
        {guest_cr0_fixed_bits, field::guest_cr0, field::secondary_processor_based_vm_execution_controls},
        {guest_paging_needs_protection, field::guest_cr0},
        {guest_cr4_fixed_bits, field::guest_cr4},
        {guest_cet_needs_write_protect, field::guest_cr4, field::guest_cr0},
        {guest_debugctl_reserved_bits, field::guest_ia32_debugctl},
        {ia32e_guest_needs_paging, field::vm_entry_controls, field::guest_cr0},
        {ia32e_guest_needs_pae, field::vm_entry_controls, field::guest_cr4},
        {guest_pcid_needs_ia32e_guest, field::guest_cr4, field::vm_entry_controls},
        {guest_cr3_width, field::guest_cr3},
        {guest_dr7_high_bits, field::guest_dr7},
        {guest_sysenter_esp_canonical, field::guest_ia32_sysenter_esp},
        {guest_sysenter_eip_canonical, field::guest_ia32_sysenter_eip},
        {guest_perf_global_ctrl_reserved_bits, field::guest_ia32_perf_global_ctrl},
        {guest_pat_memory_types, field::guest_ia32_pat},
        {guest_efer_reserved_bits, field::guest_ia32_efer},
        {guest_efer_lma_matches_ia32e_guest, field::guest_ia32_efer, field::vm_entry_controls},
        {guest_efer_lme_matches_lma, field::guest_ia32_efer, field::guest_cr0},
        {guest_bndcfgs_reserved_bits, field::guest_ia32_bndcfgs},
        {guest_bndcfgs_base_canonical, field::guest_ia32_bndcfgs},
        {guest_tr_selector_ti, field::guest_tr_selector},
        {guest_ldtr_selector_ti, field::guest_ldtr_selector, field::guest_ldtr_access_rights},
        {guest_ss_rpl_matches_cs, field::guest_ss_selector, field::guest_cs_selector, field::guest_rflags},
        {virtual_8086_base, field::guest_rflags, field::guest_cs_base, field::guest_ss_base, field::guest_ds_base, field::guest_es_base, field::guest_fs_base, field::guest_gs_base},
        {guest_tr_base_canonical, field::guest_tr_base},
        {guest_fs_base_canonical, field::guest_fs_base},
        {guest_gs_base_canonical, field::guest_gs_base},
        {guest_ldtr_base_canonical, field::guest_ldtr_base, field::guest_ldtr_access_rights},
        {guest_cs_base_high_bits, field::guest_cs_base},
        {guest_stack_or_data_base_high_bits, field::guest_ss_base, field::guest_ds_base, field::guest_es_base},
        {virtual_8086_limit, field::guest_rflags, field::guest_cs_limit, field::guest_ss_limit, field::guest_ds_limit, field::guest_es_limit, field::guest_fs_limit, field::guest_gs_limit},
        {virtual_8086_access_rights, field::guest_rflags, field::guest_cs_access_rights, field::guest_ss_access_rights, field::guest_ds_access_rights, field::guest_es_access_rights, field::guest_fs_access_rights, field::guest_gs_access_rights},
        {guest_cs_type, field::guest_cs_access_rights, field::secondary_processor_based_vm_execution_controls},
        {guest_ss_type, field::guest_ss_access_rights},
        {guest_data_segment_type, field::guest_ds_access_rights, field::guest_es_access_rights, field::guest_fs_access_rights, field::guest_gs_access_rights},
        {guest_segment_is_code_or_data, field::guest_cs_access_rights, field::guest_ss_access_rights, field::guest_ds_access_rights, field::guest_es_access_rights, field::guest_fs_access_rights, field::guest_gs_access_rights},
        {guest_cs_dpl, field::guest_cs_access_rights, field::guest_ss_access_rights},
        {guest_ss_dpl, field::guest_ss_access_rights, field::guest_ss_selector, field::guest_cs_access_rights, field::guest_cr0},
        {guest_data_segment_dpl, field::guest_ds_access_rights, field::guest_es_access_rights, field::guest_fs_access_rights, field::guest_gs_access_rights, field::guest_ds_selector, field::guest_es_selector, field::guest_fs_selector, field::guest_gs_selector},
        {guest_segment_present, field::guest_cs_access_rights, field::guest_ss_access_rights, field::guest_ds_access_rights, field::guest_es_access_rights, field::guest_fs_access_rights, field::guest_gs_access_rights},
        {guest_segment_reserved_bits, field::guest_cs_access_rights, field::guest_ss_access_rights, field::guest_ds_access_rights, field::guest_es_access_rights, field::guest_fs_access_rights, field::guest_gs_access_rights},
        {guest_cs_default_big, field::guest_cs_access_rights, field::vm_entry_controls},
        {guest_segment_granularity, field::guest_cs_access_rights, field::guest_ss_access_rights, field::guest_ds_access_rights, field::guest_es_access_rights, field::guest_fs_access_rights, field::guest_gs_access_rights, field::guest_cs_limit, field::guest_ss_limit, field::guest_ds_limit, field::guest_es_limit, field::guest_fs_limit, field::guest_gs_limit},
        {guest_tr_type, field::guest_tr_access_rights, field::vm_entry_controls},
        {guest_tr_is_system, field::guest_tr_access_rights},
        {guest_tr_present, field::guest_tr_access_rights},
        {guest_tr_reserved_bits, field::guest_tr_access_rights},
        {guest_tr_granularity, field::guest_tr_access_rights, field::guest_tr_limit},
        {guest_tr_usable, field::guest_tr_access_rights},
        {guest_ldtr_type, field::guest_ldtr_access_rights},
        {guest_ldtr_is_system, field::guest_ldtr_access_rights},
        {guest_ldtr_present, field::guest_ldtr_access_rights},
        {guest_ldtr_reserved_bits, field::guest_ldtr_access_rights},
        {guest_ldtr_granularity, field::guest_ldtr_access_rights, field::guest_ldtr_limit},
        {guest_gdtr_base_canonical, field::guest_gdtr_base},
        {guest_idtr_base_canonical, field::guest_idtr_base},
        {guest_gdtr_limit, field::guest_gdtr_limit},
        {guest_idtr_limit, field::guest_idtr_limit},
        {guest_rip_high_bits, field::guest_rip, field::vm_entry_controls, field::guest_cs_access_rights},
        {guest_rip_linear_width, field::guest_rip},
        {guest_rflags_reserved_bits, field::guest_rflags},
        {guest_rflags_virtual_8086, field::guest_rflags, field::vm_entry_controls, field::guest_cr0},
        {guest_rflags_interrupt_flag, field::guest_rflags, field::vm_entry_interruption_information},
        {activity_state_supported, field::guest_activity_state},
        {activity_hlt_needs_dpl_zero, field::guest_activity_state, field::guest_ss_access_rights},
        {activity_needs_no_blocking, field::guest_activity_state, field::guest_interruptibility_state},
        {activity_permits_injection, field::guest_activity_state, field::vm_entry_interruption_information},
        {activity_wait_for_sipi_excludes_entry_to_smm, field::guest_activity_state, field::vm_entry_controls},
        {interruptibility_reserved_bits, field::guest_interruptibility_state},
        {interruptibility_sti_and_mov_ss, field::guest_interruptibility_state},
        {interruptibility_sti_needs_interrupt_flag, field::guest_interruptibility_state, field::guest_rflags},
        {interruptibility_permits_external_interrupt, field::guest_interruptibility_state, field::vm_entry_interruption_information},
        {interruptibility_permits_nmi, field::guest_interruptibility_state, field::vm_entry_interruption_information},
        {interruptibility_smi_outside_smm, field::guest_interruptibility_state},
        {interruptibility_virtual_nmi, field::guest_interruptibility_state, field::pin_based_vm_execution_controls, field::vm_entry_interruption_information},
        {interruptibility_enclave, field::guest_interruptibility_state},
        {pending_debug_reserved_bits, field::guest_pending_debug_exceptions},
        {pending_debug_single_step, field::guest_pending_debug_exceptions, field::guest_rflags, field::guest_ia32_debugctl, field::guest_interruptibility_state},
        {pending_debug_transaction, field::guest_pending_debug_exceptions},
        {vmcs_link_pointer_address, field::vmcs_link_pointer},
        {vmcs_link_pointer_revision, field::vmcs_link_pointer},
        {vmcs_link_pointer_shadow_indicator, field::vmcs_link_pointer},
        {vmcs_link_pointer_not_current, field::vmcs_link_pointer},
        {pdpte_reserved_bits, field::guest_pdpte0, field::guest_pdpte1, field::guest_pdpte2, field::guest_pdpte3},
    });
}();
// clang-format on

}  // namespace detail

// Their encodings, the field that the rule is named after first; of a rule about all segments, those of each.
[[nodiscard]] constexpr std::span<const std::uint32_t> fields_of(EntryCheck check) {
    const auto* const found =
        std::ranges::find(detail::entry_check_fields, check, &detail::EntryCheckFields::check);
    if (found == detail::entry_check_fields.end()) return {};
    return std::span{found->encodings}.first(found->count);
}

static_assert(std::ranges::all_of(entry_check_table,
                                  [](const auto& row) { return !fields_of(row.check).empty(); }),
              "each rule has its fields");

}  // namespace flatback::nested
