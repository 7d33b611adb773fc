// Every VMCS field in one sorted table: names for logs, and a dense numbering for arrays that hold one slot a
// field.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "field.hpp"

namespace flatback::vmx {

struct NamedField {
    std::uint32_t encoding;
    std::string_view name;
};

namespace detail {
template <FieldWidth W, FieldKind K>
consteval NamedField row(Field<W, K> named, std::string_view name) {
    return {named.encoding, name};
}
}  // namespace detail

// In the order of the encodings. A field's dense index is its place here.
// clang-format off
inline constexpr auto all_fields = [] {
    using detail::row;
    return std::to_array<NamedField>({
        // SDM B.1.1
        row(field::virtual_processor_identifier, "virtual_processor_identifier"),
        row(field::posted_interrupt_notification_vector, "posted_interrupt_notification_vector"),
        row(field::eptp_index, "eptp_index"),
        // SDM B.1.2
        row(field::guest_es_selector, "guest_es_selector"),
        row(field::guest_cs_selector, "guest_cs_selector"),
        row(field::guest_ss_selector, "guest_ss_selector"),
        row(field::guest_ds_selector, "guest_ds_selector"),
        row(field::guest_fs_selector, "guest_fs_selector"),
        row(field::guest_gs_selector, "guest_gs_selector"),
        row(field::guest_ldtr_selector, "guest_ldtr_selector"),
        row(field::guest_tr_selector, "guest_tr_selector"),
        row(field::guest_interrupt_status, "guest_interrupt_status"),
        row(field::pml_index, "pml_index"),
        // SDM B.1.3
        row(field::host_es_selector, "host_es_selector"),
        row(field::host_cs_selector, "host_cs_selector"),
        row(field::host_ss_selector, "host_ss_selector"),
        row(field::host_ds_selector, "host_ds_selector"),
        row(field::host_fs_selector, "host_fs_selector"),
        row(field::host_gs_selector, "host_gs_selector"),
        row(field::host_tr_selector, "host_tr_selector"),
        // SDM B.2.1
        row(field::address_of_io_bitmap_a, "address_of_io_bitmap_a"),
        row(field::address_of_io_bitmap_b, "address_of_io_bitmap_b"),
        row(field::address_of_msr_bitmaps, "address_of_msr_bitmaps"),
        row(field::vm_exit_msr_store_address, "vm_exit_msr_store_address"),
        row(field::vm_exit_msr_load_address, "vm_exit_msr_load_address"),
        row(field::vm_entry_msr_load_address, "vm_entry_msr_load_address"),
        row(field::executive_vmcs_pointer, "executive_vmcs_pointer"),
        row(field::pml_address, "pml_address"),
        row(field::tsc_offset, "tsc_offset"),
        row(field::virtual_apic_address, "virtual_apic_address"),
        row(field::apic_access_address, "apic_access_address"),
        row(field::posted_interrupt_descriptor_address, "posted_interrupt_descriptor_address"),
        row(field::vm_function_controls, "vm_function_controls"),
        row(field::ept_pointer, "ept_pointer"),
        row(field::eoi_exit_bitmap_0, "eoi_exit_bitmap_0"),
        row(field::eoi_exit_bitmap_1, "eoi_exit_bitmap_1"),
        row(field::eoi_exit_bitmap_2, "eoi_exit_bitmap_2"),
        row(field::eoi_exit_bitmap_3, "eoi_exit_bitmap_3"),
        row(field::eptp_list_address, "eptp_list_address"),
        row(field::vmread_bitmap_address, "vmread_bitmap_address"),
        row(field::vmwrite_bitmap_address, "vmwrite_bitmap_address"),
        row(field::virtualization_exception_information_address, "virtualization_exception_information_address"),
        row(field::xss_exiting_bitmap, "xss_exiting_bitmap"),
        row(field::encls_exiting_bitmap, "encls_exiting_bitmap"),
        row(field::tsc_multiplier, "tsc_multiplier"),
        // SDM B.2.2
        row(field::guest_physical_address, "guest_physical_address"),
        // SDM B.2.3
        row(field::vmcs_link_pointer, "vmcs_link_pointer"),
        row(field::guest_ia32_debugctl, "guest_ia32_debugctl"),
        row(field::guest_ia32_pat, "guest_ia32_pat"),
        row(field::guest_ia32_efer, "guest_ia32_efer"),
        row(field::guest_ia32_perf_global_ctrl, "guest_ia32_perf_global_ctrl"),
        row(field::guest_pdpte0, "guest_pdpte0"),
        row(field::guest_pdpte1, "guest_pdpte1"),
        row(field::guest_pdpte2, "guest_pdpte2"),
        row(field::guest_pdpte3, "guest_pdpte3"),
        row(field::guest_ia32_bndcfgs, "guest_ia32_bndcfgs"),
        // SDM B.2.4
        row(field::host_ia32_pat, "host_ia32_pat"),
        row(field::host_ia32_efer, "host_ia32_efer"),
        row(field::host_ia32_perf_global_ctrl, "host_ia32_perf_global_ctrl"),
        // SDM B.3.1
        row(field::pin_based_vm_execution_controls, "pin_based_vm_execution_controls"),
        row(field::primary_processor_based_vm_execution_controls, "primary_processor_based_vm_execution_controls"),
        row(field::exception_bitmap, "exception_bitmap"),
        row(field::page_fault_error_code_mask, "page_fault_error_code_mask"),
        row(field::page_fault_error_code_match, "page_fault_error_code_match"),
        row(field::cr3_target_count, "cr3_target_count"),
        row(field::vm_exit_controls, "vm_exit_controls"),
        row(field::vm_exit_msr_store_count, "vm_exit_msr_store_count"),
        row(field::vm_exit_msr_load_count, "vm_exit_msr_load_count"),
        row(field::vm_entry_controls, "vm_entry_controls"),
        row(field::vm_entry_msr_load_count, "vm_entry_msr_load_count"),
        row(field::vm_entry_interruption_information, "vm_entry_interruption_information"),
        row(field::vm_entry_exception_error_code, "vm_entry_exception_error_code"),
        row(field::vm_entry_instruction_length, "vm_entry_instruction_length"),
        row(field::tpr_threshold, "tpr_threshold"),
        row(field::secondary_processor_based_vm_execution_controls, "secondary_processor_based_vm_execution_controls"),
        row(field::ple_gap, "ple_gap"),
        row(field::ple_window, "ple_window"),
        // SDM B.3.2
        row(field::vm_instruction_error, "vm_instruction_error"),
        row(field::exit_reason, "exit_reason"),
        row(field::vm_exit_interruption_information, "vm_exit_interruption_information"),
        row(field::vm_exit_interruption_error_code, "vm_exit_interruption_error_code"),
        row(field::idt_vectoring_information, "idt_vectoring_information"),
        row(field::idt_vectoring_error_code, "idt_vectoring_error_code"),
        row(field::vm_exit_instruction_length, "vm_exit_instruction_length"),
        row(field::vm_exit_instruction_information, "vm_exit_instruction_information"),
        // SDM B.3.3
        row(field::guest_es_limit, "guest_es_limit"),
        row(field::guest_cs_limit, "guest_cs_limit"),
        row(field::guest_ss_limit, "guest_ss_limit"),
        row(field::guest_ds_limit, "guest_ds_limit"),
        row(field::guest_fs_limit, "guest_fs_limit"),
        row(field::guest_gs_limit, "guest_gs_limit"),
        row(field::guest_ldtr_limit, "guest_ldtr_limit"),
        row(field::guest_tr_limit, "guest_tr_limit"),
        row(field::guest_gdtr_limit, "guest_gdtr_limit"),
        row(field::guest_idtr_limit, "guest_idtr_limit"),
        row(field::guest_es_access_rights, "guest_es_access_rights"),
        row(field::guest_cs_access_rights, "guest_cs_access_rights"),
        row(field::guest_ss_access_rights, "guest_ss_access_rights"),
        row(field::guest_ds_access_rights, "guest_ds_access_rights"),
        row(field::guest_fs_access_rights, "guest_fs_access_rights"),
        row(field::guest_gs_access_rights, "guest_gs_access_rights"),
        row(field::guest_ldtr_access_rights, "guest_ldtr_access_rights"),
        row(field::guest_tr_access_rights, "guest_tr_access_rights"),
        row(field::guest_interruptibility_state, "guest_interruptibility_state"),
        row(field::guest_activity_state, "guest_activity_state"),
        row(field::guest_smbase, "guest_smbase"),
        row(field::guest_ia32_sysenter_cs, "guest_ia32_sysenter_cs"),
        row(field::vmx_preemption_timer_value, "vmx_preemption_timer_value"),
        // SDM B.3.4
        row(field::host_ia32_sysenter_cs, "host_ia32_sysenter_cs"),
        // SDM B.4.1
        row(field::cr0_guest_host_mask, "cr0_guest_host_mask"),
        row(field::cr4_guest_host_mask, "cr4_guest_host_mask"),
        row(field::cr0_read_shadow, "cr0_read_shadow"),
        row(field::cr4_read_shadow, "cr4_read_shadow"),
        row(field::cr3_target_value_0, "cr3_target_value_0"),
        row(field::cr3_target_value_1, "cr3_target_value_1"),
        row(field::cr3_target_value_2, "cr3_target_value_2"),
        row(field::cr3_target_value_3, "cr3_target_value_3"),
        // SDM B.4.2
        row(field::exit_qualification, "exit_qualification"),
        row(field::io_rcx, "io_rcx"),
        row(field::io_rsi, "io_rsi"),
        row(field::io_rdi, "io_rdi"),
        row(field::io_rip, "io_rip"),
        row(field::guest_linear_address, "guest_linear_address"),
        // SDM B.4.3
        row(field::guest_cr0, "guest_cr0"),
        row(field::guest_cr3, "guest_cr3"),
        row(field::guest_cr4, "guest_cr4"),
        row(field::guest_es_base, "guest_es_base"),
        row(field::guest_cs_base, "guest_cs_base"),
        row(field::guest_ss_base, "guest_ss_base"),
        row(field::guest_ds_base, "guest_ds_base"),
        row(field::guest_fs_base, "guest_fs_base"),
        row(field::guest_gs_base, "guest_gs_base"),
        row(field::guest_ldtr_base, "guest_ldtr_base"),
        row(field::guest_tr_base, "guest_tr_base"),
        row(field::guest_gdtr_base, "guest_gdtr_base"),
        row(field::guest_idtr_base, "guest_idtr_base"),
        row(field::guest_dr7, "guest_dr7"),
        row(field::guest_rsp, "guest_rsp"),
        row(field::guest_rip, "guest_rip"),
        row(field::guest_rflags, "guest_rflags"),
        row(field::guest_pending_debug_exceptions, "guest_pending_debug_exceptions"),
        row(field::guest_ia32_sysenter_esp, "guest_ia32_sysenter_esp"),
        row(field::guest_ia32_sysenter_eip, "guest_ia32_sysenter_eip"),
        // SDM B.4.4
        row(field::host_cr0, "host_cr0"),
        row(field::host_cr3, "host_cr3"),
        row(field::host_cr4, "host_cr4"),
        row(field::host_fs_base, "host_fs_base"),
        row(field::host_gs_base, "host_gs_base"),
        row(field::host_tr_base, "host_tr_base"),
        row(field::host_gdtr_base, "host_gdtr_base"),
        row(field::host_idtr_base, "host_idtr_base"),
        row(field::host_ia32_sysenter_esp, "host_ia32_sysenter_esp"),
        row(field::host_ia32_sysenter_eip, "host_ia32_sysenter_eip"),
        row(field::host_rsp, "host_rsp"),
        row(field::host_rip, "host_rip"),
    });
}();
// clang-format on

inline constexpr std::size_t field_count = all_fields.size();

static_assert(std::ranges::adjacent_find(all_fields, std::ranges::greater_equal{}, &NamedField::encoding) ==
                  all_fields.end(),
              "all_fields must be strictly ascending");

// The highest index of any field, for IA32_VMX_VMCS_ENUM bits 9:1 (SDM 3D A.9).
inline constexpr std::uint32_t highest_field_index = [] {
    std::uint32_t highest = 0;
    for (const NamedField& named : all_fields) highest = std::max(highest, index(named.encoding));
    return highest;
}();

namespace detail {
// width (2 bits), kind (2 bits), index and access type (6 bits) side by side: every known field has an index
// below 32.
inline constexpr std::uint64_t keyed_encoding_bits = 0x6c3f;
static_assert(highest_field_index < 32);

constexpr std::size_t dense_key(std::uint64_t encoding) {
    return (encoding >> 5 & 0x300) | (encoding >> 4 & 0xc0) | (encoding & 0x3f);
}

inline constexpr auto dense_index_by_key = [] {
    std::array<std::int16_t, 0x400> table{};
    table.fill(-1);
    for (std::size_t place = 0; place < field_count; ++place) {
        const std::uint32_t encoding = all_fields[place].encoding;
        table[dense_key(encoding)] = static_cast<std::int16_t>(place);
        if (width(encoding) == FieldWidth::bits64) {
            table[dense_key(encoding | 1)] = static_cast<std::int16_t>(place);
        }
    }
    return table;
}();
}  // namespace detail

// The place of a field in all_fields, or -1 for an encoding that is no field. Both access types of a 64-bit
// field give the same place; the high access type of any other width is no field. Takes all 64 bits of a
// VMREAD operand.
constexpr int dense_index(std::uint64_t encoding) {
    return (encoding & ~detail::keyed_encoding_bits) != 0
               ? -1
               : detail::dense_index_by_key[detail::dense_key(encoding)];
}

// The same at compile time; does not compile for a field that the table lacks.
template <auto F>
requires AnyField<decltype(F)>
consteval std::size_t dense_index() {
    static_assert(dense_index(F.encoding) >= 0, "the field is missing from all_fields");
    return static_cast<std::size_t>(dense_index(F.encoding));
}

// "?" for an encoding that is no field.
constexpr std::string_view name_of(std::uint64_t encoding) {
    const int place = dense_index(encoding);
    return place < 0 ? std::string_view{"?"} : all_fields[static_cast<std::size_t>(place)].name;
}

}  // namespace flatback::vmx
