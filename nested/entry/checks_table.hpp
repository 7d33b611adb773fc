// The rules of VM entry, each with a name and the section of the SDM that states it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "../../vmx/exit_qualification.hpp"
#include "../../x86/expected.hpp"

namespace flatback::nested {

// A rule that L1's VMCS must keep, named after what the rule demands or is about; in the SDM's order.
enum class EntryCheck : std::uint8_t {
    // 27.2.1.1
    pin_based_reserved_bits,
    primary_processor_based_reserved_bits,
    secondary_processor_based_reserved_bits,
    cr3_target_count_within_limit,
    io_bitmap_a_address,
    io_bitmap_b_address,
    msr_bitmap_address,
    virtual_apic_address,
    tpr_threshold_reserved_bits,
    tpr_threshold_not_above_virtual_tpr,
    virtual_nmis_need_nmi_exiting,
    nmi_window_exiting_needs_virtual_nmis,
    apic_access_address,
    virtualize_x2apic_mode_needs_tpr_shadow,
    apic_register_virtualization_needs_tpr_shadow,
    virtual_interrupt_delivery_needs_tpr_shadow,
    virtualize_x2apic_mode_excludes_apic_accesses,
    virtual_interrupt_delivery_needs_external_interrupt_exiting,
    posted_interrupts_need_virtual_interrupt_delivery,
    posted_interrupts_need_acknowledge_on_exit,
    posted_interrupt_vector,
    posted_interrupt_descriptor_address,
    vpid_not_zero,
    ept_pointer,
    pml_needs_ept,
    pml_address,
    unrestricted_guest_needs_ept,
    mode_based_execute_control_needs_ept,
    vm_function_reserved_bits,
    eptp_switching_needs_ept,
    eptp_list_address,
    vmread_bitmap_address,
    vmwrite_bitmap_address,
    virtualization_exception_address,
    tsc_multiplier_not_zero,
    // 27.2.1.2
    exit_reserved_bits,
    save_preemption_timer_needs_timer,
    exit_msr_store_area,
    exit_msr_load_area,
    // 27.2.1.3
    entry_reserved_bits,
    injection_type,
    injection_vector,
    injection_error_code_wanted,
    injection_error_code_unwanted,
    injection_reserved_bits,
    injection_error_code_bits,
    injection_instruction_length,
    entry_msr_load_area,
    entry_to_smm_outside_smm,
    entry_to_smm_excludes_dual_monitor_deactivation,
    // 27.2.2
    host_cr0_fixed_bits,
    host_cr4_fixed_bits,
    host_cet_needs_write_protect,
    host_cr3_width,
    host_sysenter_esp_canonical,
    host_sysenter_eip_canonical,
    host_perf_global_ctrl_reserved_bits,
    host_pat_memory_types,
    host_efer_reserved_bits,
    host_efer_matches_address_space_size,
    // 27.2.3
    host_selector_rpl_and_ti,
    host_cs_selector_not_null,
    host_tr_selector_not_null,
    host_ss_selector_not_null,
    host_fs_base_canonical,
    host_gs_base_canonical,
    host_gdtr_base_canonical,
    host_idtr_base_canonical,
    host_tr_base_canonical,
    // 27.2.4
    ia32e_guest_needs_ia32e_processor,
    host_address_space_size_matches_processor,
    host_pcid_needs_64_bit_host,
    host_rip_high_bits,
    host_64_bit_needs_pae,
    host_rip_canonical,
    // 27.3.1.1
    guest_cr0_fixed_bits,
    guest_paging_needs_protection,
    guest_cr4_fixed_bits,
    guest_cet_needs_write_protect,
    guest_debugctl_reserved_bits,
    ia32e_guest_needs_paging,
    ia32e_guest_needs_pae,
    guest_pcid_needs_ia32e_guest,
    guest_cr3_width,
    guest_dr7_high_bits,
    guest_sysenter_esp_canonical,
    guest_sysenter_eip_canonical,
    guest_perf_global_ctrl_reserved_bits,
    guest_pat_memory_types,
    guest_efer_reserved_bits,
    guest_efer_lma_matches_ia32e_guest,
    guest_efer_lme_matches_lma,
    guest_bndcfgs_reserved_bits,
    guest_bndcfgs_base_canonical,
    // 27.3.1.2
    guest_tr_selector_ti,
    guest_ldtr_selector_ti,
    guest_ss_rpl_matches_cs,
    virtual_8086_base,
    guest_tr_base_canonical,
    guest_fs_base_canonical,
    guest_gs_base_canonical,
    guest_ldtr_base_canonical,
    guest_cs_base_high_bits,
    guest_stack_or_data_base_high_bits,
    virtual_8086_limit,
    virtual_8086_access_rights,
    guest_cs_type,
    guest_ss_type,
    guest_data_segment_type,
    guest_segment_is_code_or_data,
    guest_cs_dpl,
    guest_ss_dpl,
    guest_data_segment_dpl,
    guest_segment_present,
    guest_segment_reserved_bits,
    guest_cs_default_big,
    guest_segment_granularity,
    guest_tr_type,
    guest_tr_is_system,
    guest_tr_present,
    guest_tr_reserved_bits,
    guest_tr_granularity,
    guest_tr_usable,
    guest_ldtr_type,
    guest_ldtr_is_system,
    guest_ldtr_present,
    guest_ldtr_reserved_bits,
    guest_ldtr_granularity,
    // 27.3.1.3
    guest_gdtr_base_canonical,
    guest_idtr_base_canonical,
    guest_gdtr_limit,
    guest_idtr_limit,
    // 27.3.1.4
    guest_rip_high_bits,
    guest_rip_linear_width,
    guest_rflags_reserved_bits,
    guest_rflags_virtual_8086,
    guest_rflags_interrupt_flag,
    // 27.3.1.5
    activity_state_supported,
    activity_hlt_needs_dpl_zero,
    activity_needs_no_blocking,
    activity_permits_injection,
    activity_wait_for_sipi_excludes_entry_to_smm,
    interruptibility_reserved_bits,
    interruptibility_sti_and_mov_ss,
    interruptibility_sti_needs_interrupt_flag,
    interruptibility_permits_external_interrupt,
    interruptibility_permits_nmi,
    interruptibility_smi_outside_smm,
    interruptibility_virtual_nmi,
    interruptibility_enclave,
    pending_debug_reserved_bits,
    pending_debug_single_step,
    pending_debug_transaction,
    vmcs_link_pointer_address,
    vmcs_link_pointer_revision,
    vmcs_link_pointer_shadow_indicator,
    vmcs_link_pointer_not_current,
    // 27.3.1.6
    pdpte_reserved_bits,
};

// The rule that was broken first, if one was.
using EntryVerdict = Expected<void, EntryCheck>;

struct EntryCheckDescription {
    EntryCheck check;
    std::string_view name;
    std::string_view section;
};

// clang-format off
inline constexpr auto entry_check_table = std::to_array<EntryCheckDescription>({
    {EntryCheck::pin_based_reserved_bits, "pin_based_reserved_bits", "SDM 3C 27.2.1.1"},
    {EntryCheck::primary_processor_based_reserved_bits, "primary_processor_based_reserved_bits", "SDM 3C 27.2.1.1"},
    {EntryCheck::secondary_processor_based_reserved_bits, "secondary_processor_based_reserved_bits", "SDM 3C 27.2.1.1"},
    {EntryCheck::cr3_target_count_within_limit, "cr3_target_count_within_limit", "SDM 3C 27.2.1.1"},
    {EntryCheck::io_bitmap_a_address, "io_bitmap_a_address", "SDM 3C 27.2.1.1"},
    {EntryCheck::io_bitmap_b_address, "io_bitmap_b_address", "SDM 3C 27.2.1.1"},
    {EntryCheck::msr_bitmap_address, "msr_bitmap_address", "SDM 3C 27.2.1.1"},
    {EntryCheck::virtual_apic_address, "virtual_apic_address", "SDM 3C 27.2.1.1"},
    {EntryCheck::tpr_threshold_reserved_bits, "tpr_threshold_reserved_bits", "SDM 3C 27.2.1.1"},
    {EntryCheck::tpr_threshold_not_above_virtual_tpr, "tpr_threshold_not_above_virtual_tpr", "SDM 3C 27.2.1.1"},
    {EntryCheck::virtual_nmis_need_nmi_exiting, "virtual_nmis_need_nmi_exiting", "SDM 3C 27.2.1.1"},
    {EntryCheck::nmi_window_exiting_needs_virtual_nmis, "nmi_window_exiting_needs_virtual_nmis", "SDM 3C 27.2.1.1"},
    {EntryCheck::apic_access_address, "apic_access_address", "SDM 3C 27.2.1.1"},
    {EntryCheck::virtualize_x2apic_mode_needs_tpr_shadow, "virtualize_x2apic_mode_needs_tpr_shadow", "SDM 3C 27.2.1.1"},
    {EntryCheck::apic_register_virtualization_needs_tpr_shadow, "apic_register_virtualization_needs_tpr_shadow", "SDM 3C 27.2.1.1"},
    {EntryCheck::virtual_interrupt_delivery_needs_tpr_shadow, "virtual_interrupt_delivery_needs_tpr_shadow", "SDM 3C 27.2.1.1"},
    {EntryCheck::virtualize_x2apic_mode_excludes_apic_accesses, "virtualize_x2apic_mode_excludes_apic_accesses", "SDM 3C 27.2.1.1"},
    {EntryCheck::virtual_interrupt_delivery_needs_external_interrupt_exiting, "virtual_interrupt_delivery_needs_external_interrupt_exiting", "SDM 3C 27.2.1.1"},
    {EntryCheck::posted_interrupts_need_virtual_interrupt_delivery, "posted_interrupts_need_virtual_interrupt_delivery", "SDM 3C 27.2.1.1"},
    {EntryCheck::posted_interrupts_need_acknowledge_on_exit, "posted_interrupts_need_acknowledge_on_exit", "SDM 3C 27.2.1.1"},
    {EntryCheck::posted_interrupt_vector, "posted_interrupt_vector", "SDM 3C 27.2.1.1"},
    {EntryCheck::posted_interrupt_descriptor_address, "posted_interrupt_descriptor_address", "SDM 3C 27.2.1.1"},
    {EntryCheck::vpid_not_zero, "vpid_not_zero", "SDM 3C 27.2.1.1"},
    {EntryCheck::ept_pointer, "ept_pointer", "SDM 3C 27.2.1.1"},
    {EntryCheck::pml_needs_ept, "pml_needs_ept", "SDM 3C 27.2.1.1"},
    {EntryCheck::pml_address, "pml_address", "SDM 3C 27.2.1.1"},
    {EntryCheck::unrestricted_guest_needs_ept, "unrestricted_guest_needs_ept", "SDM 3C 27.2.1.1"},
    {EntryCheck::mode_based_execute_control_needs_ept, "mode_based_execute_control_needs_ept", "SDM 3C 27.2.1.1"},
    {EntryCheck::vm_function_reserved_bits, "vm_function_reserved_bits", "SDM 3C 27.2.1.1"},
    {EntryCheck::eptp_switching_needs_ept, "eptp_switching_needs_ept", "SDM 3C 27.2.1.1"},
    {EntryCheck::eptp_list_address, "eptp_list_address", "SDM 3C 27.2.1.1"},
    {EntryCheck::vmread_bitmap_address, "vmread_bitmap_address", "SDM 3C 27.2.1.1"},
    {EntryCheck::vmwrite_bitmap_address, "vmwrite_bitmap_address", "SDM 3C 27.2.1.1"},
    {EntryCheck::virtualization_exception_address, "virtualization_exception_address", "SDM 3C 27.2.1.1"},
    {EntryCheck::tsc_multiplier_not_zero, "tsc_multiplier_not_zero", "SDM 3C 27.2.1.1"},
    {EntryCheck::exit_reserved_bits, "exit_reserved_bits", "SDM 3C 27.2.1.2"},
    {EntryCheck::save_preemption_timer_needs_timer, "save_preemption_timer_needs_timer", "SDM 3C 27.2.1.2"},
    {EntryCheck::exit_msr_store_area, "exit_msr_store_area", "SDM 3C 27.2.1.2"},
    {EntryCheck::exit_msr_load_area, "exit_msr_load_area", "SDM 3C 27.2.1.2"},
    {EntryCheck::entry_reserved_bits, "entry_reserved_bits", "SDM 3C 27.2.1.3"},
    {EntryCheck::injection_type, "injection_type", "SDM 3C 27.2.1.3"},
    {EntryCheck::injection_vector, "injection_vector", "SDM 3C 27.2.1.3"},
    {EntryCheck::injection_error_code_wanted, "injection_error_code_wanted", "SDM 3C 27.2.1.3"},
    {EntryCheck::injection_error_code_unwanted, "injection_error_code_unwanted", "SDM 3C 27.2.1.3"},
    {EntryCheck::injection_reserved_bits, "injection_reserved_bits", "SDM 3C 27.2.1.3"},
    {EntryCheck::injection_error_code_bits, "injection_error_code_bits", "SDM 3C 27.2.1.3"},
    {EntryCheck::injection_instruction_length, "injection_instruction_length", "SDM 3C 27.2.1.3"},
    {EntryCheck::entry_msr_load_area, "entry_msr_load_area", "SDM 3C 27.2.1.3"},
    {EntryCheck::entry_to_smm_outside_smm, "entry_to_smm_outside_smm", "SDM 3C 27.2.1.3"},
    {EntryCheck::entry_to_smm_excludes_dual_monitor_deactivation, "entry_to_smm_excludes_dual_monitor_deactivation", "SDM 3C 27.2.1.3"},
    {EntryCheck::host_cr0_fixed_bits, "host_cr0_fixed_bits", "SDM 3C 27.2.2"},
    {EntryCheck::host_cr4_fixed_bits, "host_cr4_fixed_bits", "SDM 3C 27.2.2"},
    {EntryCheck::host_cet_needs_write_protect, "host_cet_needs_write_protect", "SDM 3C 27.2.2"},
    {EntryCheck::host_cr3_width, "host_cr3_width", "SDM 3C 27.2.2"},
    {EntryCheck::host_sysenter_esp_canonical, "host_sysenter_esp_canonical", "SDM 3C 27.2.2"},
    {EntryCheck::host_sysenter_eip_canonical, "host_sysenter_eip_canonical", "SDM 3C 27.2.2"},
    {EntryCheck::host_perf_global_ctrl_reserved_bits, "host_perf_global_ctrl_reserved_bits", "SDM 3C 27.2.2"},
    {EntryCheck::host_pat_memory_types, "host_pat_memory_types", "SDM 3C 27.2.2"},
    {EntryCheck::host_efer_reserved_bits, "host_efer_reserved_bits", "SDM 3C 27.2.2"},
    {EntryCheck::host_efer_matches_address_space_size, "host_efer_matches_address_space_size", "SDM 3C 27.2.2"},
    {EntryCheck::host_selector_rpl_and_ti, "host_selector_rpl_and_ti", "SDM 3C 27.2.3"},
    {EntryCheck::host_cs_selector_not_null, "host_cs_selector_not_null", "SDM 3C 27.2.3"},
    {EntryCheck::host_tr_selector_not_null, "host_tr_selector_not_null", "SDM 3C 27.2.3"},
    {EntryCheck::host_ss_selector_not_null, "host_ss_selector_not_null", "SDM 3C 27.2.3"},
    {EntryCheck::host_fs_base_canonical, "host_fs_base_canonical", "SDM 3C 27.2.3"},
    {EntryCheck::host_gs_base_canonical, "host_gs_base_canonical", "SDM 3C 27.2.3"},
    {EntryCheck::host_gdtr_base_canonical, "host_gdtr_base_canonical", "SDM 3C 27.2.3"},
    {EntryCheck::host_idtr_base_canonical, "host_idtr_base_canonical", "SDM 3C 27.2.3"},
    {EntryCheck::host_tr_base_canonical, "host_tr_base_canonical", "SDM 3C 27.2.3"},
    {EntryCheck::ia32e_guest_needs_ia32e_processor, "ia32e_guest_needs_ia32e_processor", "SDM 3C 27.2.4"},
    {EntryCheck::host_address_space_size_matches_processor, "host_address_space_size_matches_processor", "SDM 3C 27.2.4"},
    {EntryCheck::host_pcid_needs_64_bit_host, "host_pcid_needs_64_bit_host", "SDM 3C 27.2.4"},
    {EntryCheck::host_rip_high_bits, "host_rip_high_bits", "SDM 3C 27.2.4"},
    {EntryCheck::host_64_bit_needs_pae, "host_64_bit_needs_pae", "SDM 3C 27.2.4"},
    {EntryCheck::host_rip_canonical, "host_rip_canonical", "SDM 3C 27.2.4"},
    {EntryCheck::guest_cr0_fixed_bits, "guest_cr0_fixed_bits", "SDM 3C 27.3.1.1"},
    {EntryCheck::guest_paging_needs_protection, "guest_paging_needs_protection", "SDM 3C 27.3.1.1"},
    {EntryCheck::guest_cr4_fixed_bits, "guest_cr4_fixed_bits", "SDM 3C 27.3.1.1"},
    {EntryCheck::guest_cet_needs_write_protect, "guest_cet_needs_write_protect", "SDM 3C 27.3.1.1"},
    {EntryCheck::guest_debugctl_reserved_bits, "guest_debugctl_reserved_bits", "SDM 3C 27.3.1.1"},
    {EntryCheck::ia32e_guest_needs_paging, "ia32e_guest_needs_paging", "SDM 3C 27.3.1.1"},
    {EntryCheck::ia32e_guest_needs_pae, "ia32e_guest_needs_pae", "SDM 3C 27.3.1.1"},
    {EntryCheck::guest_pcid_needs_ia32e_guest, "guest_pcid_needs_ia32e_guest", "SDM 3C 27.3.1.1"},
    {EntryCheck::guest_cr3_width, "guest_cr3_width", "SDM 3C 27.3.1.1"},
    {EntryCheck::guest_dr7_high_bits, "guest_dr7_high_bits", "SDM 3C 27.3.1.1"},
    {EntryCheck::guest_sysenter_esp_canonical, "guest_sysenter_esp_canonical", "SDM 3C 27.3.1.1"},
    {EntryCheck::guest_sysenter_eip_canonical, "guest_sysenter_eip_canonical", "SDM 3C 27.3.1.1"},
    {EntryCheck::guest_perf_global_ctrl_reserved_bits, "guest_perf_global_ctrl_reserved_bits", "SDM 3C 27.3.1.1"},
    {EntryCheck::guest_pat_memory_types, "guest_pat_memory_types", "SDM 3C 27.3.1.1"},
    {EntryCheck::guest_efer_reserved_bits, "guest_efer_reserved_bits", "SDM 3C 27.3.1.1"},
    {EntryCheck::guest_efer_lma_matches_ia32e_guest, "guest_efer_lma_matches_ia32e_guest", "SDM 3C 27.3.1.1"},
    {EntryCheck::guest_efer_lme_matches_lma, "guest_efer_lme_matches_lma", "SDM 3C 27.3.1.1"},
    {EntryCheck::guest_bndcfgs_reserved_bits, "guest_bndcfgs_reserved_bits", "SDM 3C 27.3.1.1"},
    {EntryCheck::guest_bndcfgs_base_canonical, "guest_bndcfgs_base_canonical", "SDM 3C 27.3.1.1"},
    {EntryCheck::guest_tr_selector_ti, "guest_tr_selector_ti", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_ldtr_selector_ti, "guest_ldtr_selector_ti", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_ss_rpl_matches_cs, "guest_ss_rpl_matches_cs", "SDM 3C 27.3.1.2"},
    {EntryCheck::virtual_8086_base, "virtual_8086_base", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_tr_base_canonical, "guest_tr_base_canonical", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_fs_base_canonical, "guest_fs_base_canonical", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_gs_base_canonical, "guest_gs_base_canonical", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_ldtr_base_canonical, "guest_ldtr_base_canonical", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_cs_base_high_bits, "guest_cs_base_high_bits", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_stack_or_data_base_high_bits, "guest_stack_or_data_base_high_bits", "SDM 3C 27.3.1.2"},
    {EntryCheck::virtual_8086_limit, "virtual_8086_limit", "SDM 3C 27.3.1.2"},
    {EntryCheck::virtual_8086_access_rights, "virtual_8086_access_rights", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_cs_type, "guest_cs_type", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_ss_type, "guest_ss_type", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_data_segment_type, "guest_data_segment_type", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_segment_is_code_or_data, "guest_segment_is_code_or_data", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_cs_dpl, "guest_cs_dpl", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_ss_dpl, "guest_ss_dpl", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_data_segment_dpl, "guest_data_segment_dpl", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_segment_present, "guest_segment_present", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_segment_reserved_bits, "guest_segment_reserved_bits", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_cs_default_big, "guest_cs_default_big", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_segment_granularity, "guest_segment_granularity", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_tr_type, "guest_tr_type", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_tr_is_system, "guest_tr_is_system", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_tr_present, "guest_tr_present", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_tr_reserved_bits, "guest_tr_reserved_bits", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_tr_granularity, "guest_tr_granularity", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_tr_usable, "guest_tr_usable", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_ldtr_type, "guest_ldtr_type", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_ldtr_is_system, "guest_ldtr_is_system", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_ldtr_present, "guest_ldtr_present", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_ldtr_reserved_bits, "guest_ldtr_reserved_bits", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_ldtr_granularity, "guest_ldtr_granularity", "SDM 3C 27.3.1.2"},
    {EntryCheck::guest_gdtr_base_canonical, "guest_gdtr_base_canonical", "SDM 3C 27.3.1.3"},
    {EntryCheck::guest_idtr_base_canonical, "guest_idtr_base_canonical", "SDM 3C 27.3.1.3"},
    {EntryCheck::guest_gdtr_limit, "guest_gdtr_limit", "SDM 3C 27.3.1.3"},
    {EntryCheck::guest_idtr_limit, "guest_idtr_limit", "SDM 3C 27.3.1.3"},
    {EntryCheck::guest_rip_high_bits, "guest_rip_high_bits", "SDM 3C 27.3.1.4"},
    {EntryCheck::guest_rip_linear_width, "guest_rip_linear_width", "SDM 3C 27.3.1.4"},
    {EntryCheck::guest_rflags_reserved_bits, "guest_rflags_reserved_bits", "SDM 3C 27.3.1.4"},
    {EntryCheck::guest_rflags_virtual_8086, "guest_rflags_virtual_8086", "SDM 3C 27.3.1.4"},
    {EntryCheck::guest_rflags_interrupt_flag, "guest_rflags_interrupt_flag", "SDM 3C 27.3.1.4"},
    {EntryCheck::activity_state_supported, "activity_state_supported", "SDM 3C 27.3.1.5"},
    {EntryCheck::activity_hlt_needs_dpl_zero, "activity_hlt_needs_dpl_zero", "SDM 3C 27.3.1.5"},
    {EntryCheck::activity_needs_no_blocking, "activity_needs_no_blocking", "SDM 3C 27.3.1.5"},
    {EntryCheck::activity_permits_injection, "activity_permits_injection", "SDM 3C 27.3.1.5"},
    {EntryCheck::activity_wait_for_sipi_excludes_entry_to_smm, "activity_wait_for_sipi_excludes_entry_to_smm", "SDM 3C 27.3.1.5"},
    {EntryCheck::interruptibility_reserved_bits, "interruptibility_reserved_bits", "SDM 3C 27.3.1.5"},
    {EntryCheck::interruptibility_sti_and_mov_ss, "interruptibility_sti_and_mov_ss", "SDM 3C 27.3.1.5"},
    {EntryCheck::interruptibility_sti_needs_interrupt_flag, "interruptibility_sti_needs_interrupt_flag", "SDM 3C 27.3.1.5"},
    {EntryCheck::interruptibility_permits_external_interrupt, "interruptibility_permits_external_interrupt", "SDM 3C 27.3.1.5"},
    {EntryCheck::interruptibility_permits_nmi, "interruptibility_permits_nmi", "SDM 3C 27.3.1.5"},
    {EntryCheck::interruptibility_smi_outside_smm, "interruptibility_smi_outside_smm", "SDM 3C 27.3.1.5"},
    {EntryCheck::interruptibility_virtual_nmi, "interruptibility_virtual_nmi", "SDM 3C 27.3.1.5"},
    {EntryCheck::interruptibility_enclave, "interruptibility_enclave", "SDM 3C 27.3.1.5"},
    {EntryCheck::pending_debug_reserved_bits, "pending_debug_reserved_bits", "SDM 3C 27.3.1.5"},
    {EntryCheck::pending_debug_single_step, "pending_debug_single_step", "SDM 3C 27.3.1.5"},
    {EntryCheck::pending_debug_transaction, "pending_debug_transaction", "SDM 3C 27.3.1.5"},
    {EntryCheck::vmcs_link_pointer_address, "vmcs_link_pointer_address", "SDM 3C 27.3.1.5"},
    {EntryCheck::vmcs_link_pointer_revision, "vmcs_link_pointer_revision", "SDM 3C 27.3.1.5"},
    {EntryCheck::vmcs_link_pointer_shadow_indicator, "vmcs_link_pointer_shadow_indicator", "SDM 3C 27.3.1.5"},
    {EntryCheck::vmcs_link_pointer_not_current, "vmcs_link_pointer_not_current", "SDM 3C 27.3.1.5"},
    {EntryCheck::pdpte_reserved_bits, "pdpte_reserved_bits", "SDM 3C 27.3.1.6"},
});
// clang-format on

inline constexpr std::size_t entry_check_count = entry_check_table.size();

static_assert(
    [] {
        for (std::size_t place = 0; place < entry_check_count; ++place) {
            if (static_cast<std::size_t>(entry_check_table[place].check) != place) return false;
        }
        return true;
    }(),
    "entry_check_table must hold every EntryCheck at its place");

[[nodiscard]] constexpr std::string_view name_of(EntryCheck check) {
    return entry_check_table[static_cast<std::size_t>(check)].name;
}
[[nodiscard]] constexpr std::string_view section_of(EntryCheck check) {
    return entry_check_table[static_cast<std::size_t>(check)].section;
}

// Which of the three ways VM entry fails (SDM 3C 27.2 and 27.8).
[[nodiscard]] constexpr bool is_control_check(EntryCheck check) {
    return check < EntryCheck::host_cr0_fixed_bits;  // VMfail with error 7
}
[[nodiscard]] constexpr bool is_host_state_check(EntryCheck check) {
    // VMfail with error 8; the SDM lets the checks of the address-space size give 7 or 8.
    return !is_control_check(check) && check < EntryCheck::guest_cr0_fixed_bits;
}
[[nodiscard]] constexpr bool is_guest_state_check(EntryCheck check) {
    return check >= EntryCheck::guest_cr0_fixed_bits;  // VM exit with basic reason 33 and bit 31 set
}

// The exit qualification of the VM exit that a failed guest-state check causes (SDM 3C 27.8).
[[nodiscard]] constexpr vmx::GuestStateFailure exit_qualification_of(EntryCheck check) {
    switch (check) {
        case EntryCheck::pdpte_reserved_bits:
            return vmx::GuestStateFailure::pdpte;
        case EntryCheck::vmcs_link_pointer_address:
        case EntryCheck::vmcs_link_pointer_revision:
        case EntryCheck::vmcs_link_pointer_shadow_indicator:
        case EntryCheck::vmcs_link_pointer_not_current:
            return vmx::GuestStateFailure::vmcs_link_pointer;
        default:
            return vmx::GuestStateFailure::other;
    }
}

}  // namespace flatback::nested
