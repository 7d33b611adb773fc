// Where KVM has what: its struct kvm_nested_state for VMX, as the kernel's API text describes it
// (Documentation/virt/kvm/api.rst, KVM_GET_NESTED_STATE), and of the 4 KB of a VMCS in it and in L1's memory
// the offset of each field. KVM keeps both as they are, for states to outlive versions of it. Numbers are
// little-endian.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "../../vmx/field_table.hpp"

namespace flatback::nested::kvm {

// The revision identifier that KVM's L1s read in IA32_VMX_BASIC, and have in their VMCS regions.
inline constexpr std::uint32_t revision = 0x11e5'7ed0;
// The VMX-preemption timer's rate that they read in IA32_VMX_MISC.
inline constexpr unsigned preemption_timer_rate = 5;

// clang-format off
inline constexpr std::size_t flags_at               = 0;    // 16 bits
inline constexpr std::size_t format_at              = 2;    // 16 bits
inline constexpr std::size_t size_at                = 4;    // 32 bits, of the whole
inline constexpr std::size_t vmxon_pointer_at       = 8;    // all ones: not in VMX operation
inline constexpr std::size_t current_pointer_at     = 16;   // all ones: no VMCS is current
inline constexpr std::size_t smm_flags_at           = 24;   // 16 bits
inline constexpr std::size_t header_flags_at        = 28;   // 32 bits
inline constexpr std::size_t timer_deadline_at      = 32;   // by L1's time-stamp counter, in units of the timer
inline constexpr std::size_t header_size            = 128;
inline constexpr std::size_t vmcs_size              = 4096;

inline constexpr std::uint16_t format_vmx           = 0;
inline constexpr std::uint64_t no_pointer           = ~std::uint64_t{0};
// Flags.
inline constexpr std::uint16_t guest_mode           = 1U << 0;  // L2 runs
inline constexpr std::uint16_t run_pending          = 1U << 1;  // L1's VM entry is still to be made
inline constexpr std::uint16_t enlightened_vmcs     = 1U << 2;
inline constexpr std::uint16_t trap_flag_pending    = 1U << 3;  // an exit by the monitor trap flag
// Of the VMX header.
inline constexpr std::uint32_t has_timer_deadline   = 1U << 0;

// In a VMCS.
inline constexpr std::size_t revision_at            = 0;    // 32 bits, each
inline constexpr std::size_t abort_indicator_at     = 4;
inline constexpr std::size_t launch_state_at        = 8;    // 1: launched
// clang-format on

namespace detail {
struct Place {
    std::uint32_t encoding;
    std::uint16_t offset;
};
template <vmx::FieldWidth W, vmx::FieldKind K>
consteval Place at(vmx::Field<W, K> field, std::uint16_t offset) {
    return {field.encoding, offset};
}
}  // namespace detail

// The fields of a VMCS, each as wide as its encoding says, natural width being 64 bits.
// clang-format off
inline constexpr auto places = [] {
    namespace field = vmx::field;
    using detail::at;
    return std::to_array<detail::Place>({
        at(field::address_of_io_bitmap_a,                          40),
        at(field::address_of_io_bitmap_b,                          48),
        at(field::address_of_msr_bitmaps,                          56),
        at(field::vm_exit_msr_store_address,                       64),
        at(field::vm_exit_msr_load_address,                        72),
        at(field::vm_entry_msr_load_address,                       80),
        at(field::tsc_offset,                                      88),
        at(field::virtual_apic_address,                            96),
        at(field::apic_access_address,                            104),
        at(field::posted_interrupt_descriptor_address,            112),
        at(field::ept_pointer,                                    120),
        at(field::eoi_exit_bitmap_0,                              128),
        at(field::eoi_exit_bitmap_1,                              136),
        at(field::eoi_exit_bitmap_2,                              144),
        at(field::eoi_exit_bitmap_3,                              152),
        at(field::xss_exiting_bitmap,                             160),
        at(field::guest_physical_address,                         168),
        at(field::vmcs_link_pointer,                              176),
        at(field::guest_ia32_debugctl,                            184),
        at(field::guest_ia32_pat,                                 192),
        at(field::guest_ia32_efer,                                200),
        at(field::guest_ia32_perf_global_ctrl,                    208),
        at(field::guest_pdpte0,                                   216),
        at(field::guest_pdpte1,                                   224),
        at(field::guest_pdpte2,                                   232),
        at(field::guest_pdpte3,                                   240),
        at(field::guest_ia32_bndcfgs,                             248),
        at(field::host_ia32_pat,                                  256),
        at(field::host_ia32_efer,                                 264),
        at(field::host_ia32_perf_global_ctrl,                     272),
        at(field::vmread_bitmap_address,                          280),
        at(field::vmwrite_bitmap_address,                         288),
        at(field::vm_function_controls,                           296),
        at(field::eptp_list_address,                              304),
        at(field::pml_address,                                    312),
        at(field::encls_exiting_bitmap,                           320),
        at(field::tsc_multiplier,                                 328),
        at(field::cr0_guest_host_mask,                            344),
        at(field::cr4_guest_host_mask,                            352),
        at(field::cr0_read_shadow,                                360),
        at(field::cr4_read_shadow,                                368),
        // Behind them is room for four CR3 targets, which KVM has none of.
        at(field::exit_qualification,                             408),
        at(field::guest_linear_address,                           416),
        at(field::guest_cr0,                                      424),
        at(field::guest_cr3,                                      432),
        at(field::guest_cr4,                                      440),
        at(field::guest_es_base,                                  448),
        at(field::guest_cs_base,                                  456),
        at(field::guest_ss_base,                                  464),
        at(field::guest_ds_base,                                  472),
        at(field::guest_fs_base,                                  480),
        at(field::guest_gs_base,                                  488),
        at(field::guest_ldtr_base,                                496),
        at(field::guest_tr_base,                                  504),
        at(field::guest_gdtr_base,                                512),
        at(field::guest_idtr_base,                                520),
        at(field::guest_dr7,                                      528),
        at(field::guest_rsp,                                      536),
        at(field::guest_rip,                                      544),
        at(field::guest_rflags,                                   552),
        at(field::guest_pending_debug_exceptions,                 560),
        at(field::guest_ia32_sysenter_esp,                        568),
        at(field::guest_ia32_sysenter_eip,                        576),
        at(field::host_cr0,                                       584),
        at(field::host_cr3,                                       592),
        at(field::host_cr4,                                       600),
        at(field::host_fs_base,                                   608),
        at(field::host_gs_base,                                   616),
        at(field::host_tr_base,                                   624),
        at(field::host_gdtr_base,                                 632),
        at(field::host_idtr_base,                                 640),
        at(field::host_ia32_sysenter_esp,                         648),
        at(field::host_ia32_sysenter_eip,                         656),
        at(field::host_rsp,                                       664),
        at(field::host_rip,                                       672),
        at(field::pin_based_vm_execution_controls,                744),
        at(field::primary_processor_based_vm_execution_controls,  748),
        at(field::exception_bitmap,                               752),
        at(field::page_fault_error_code_mask,                     756),
        at(field::page_fault_error_code_match,                    760),
        at(field::cr3_target_count,                               764),
        at(field::vm_exit_controls,                               768),
        at(field::vm_exit_msr_store_count,                        772),
        at(field::vm_exit_msr_load_count,                         776),
        at(field::vm_entry_controls,                              780),
        at(field::vm_entry_msr_load_count,                        784),
        at(field::vm_entry_interruption_information,              788),
        at(field::vm_entry_exception_error_code,                  792),
        at(field::vm_entry_instruction_length,                    796),
        at(field::tpr_threshold,                                  800),
        at(field::secondary_processor_based_vm_execution_controls, 804),
        at(field::vm_instruction_error,                           808),
        at(field::exit_reason,                                    812),
        at(field::vm_exit_interruption_information,               816),
        at(field::vm_exit_interruption_error_code,                820),
        at(field::idt_vectoring_information,                      824),
        at(field::idt_vectoring_error_code,                       828),
        at(field::vm_exit_instruction_length,                     832),
        at(field::vm_exit_instruction_information,                836),
        at(field::guest_es_limit,                                 840),
        at(field::guest_cs_limit,                                 844),
        at(field::guest_ss_limit,                                 848),
        at(field::guest_ds_limit,                                 852),
        at(field::guest_fs_limit,                                 856),
        at(field::guest_gs_limit,                                 860),
        at(field::guest_ldtr_limit,                               864),
        at(field::guest_tr_limit,                                 868),
        at(field::guest_gdtr_limit,                               872),
        at(field::guest_idtr_limit,                               876),
        at(field::guest_es_access_rights,                         880),
        at(field::guest_cs_access_rights,                         884),
        at(field::guest_ss_access_rights,                         888),
        at(field::guest_ds_access_rights,                         892),
        at(field::guest_fs_access_rights,                         896),
        at(field::guest_gs_access_rights,                         900),
        at(field::guest_ldtr_access_rights,                       904),
        at(field::guest_tr_access_rights,                         908),
        at(field::guest_interruptibility_state,                   912),
        at(field::guest_activity_state,                           916),
        at(field::guest_ia32_sysenter_cs,                         920),
        at(field::host_ia32_sysenter_cs,                          924),
        at(field::vmx_preemption_timer_value,                     928),
        at(field::virtual_processor_identifier,                   960),
        at(field::posted_interrupt_notification_vector,           962),
        at(field::guest_es_selector,                              964),
        at(field::guest_cs_selector,                              966),
        at(field::guest_ss_selector,                              968),
        at(field::guest_ds_selector,                              970),
        at(field::guest_fs_selector,                              972),
        at(field::guest_gs_selector,                              974),
        at(field::guest_ldtr_selector,                            976),
        at(field::guest_tr_selector,                              978),
        at(field::guest_interrupt_status,                         980),
        at(field::host_es_selector,                               982),
        at(field::host_cs_selector,                               984),
        at(field::host_ss_selector,                               986),
        at(field::host_ds_selector,                               988),
        at(field::host_fs_selector,                               990),
        at(field::host_gs_selector,                               992),
        at(field::host_tr_selector,                               994),
        at(field::pml_index,                                      996),
    });
}();
// clang-format on

// In bytes, of a field with this encoding.
constexpr std::size_t width_of(std::uint32_t encoding) {
    switch (vmx::width(encoding)) {
        case vmx::FieldWidth::bits16:
            return 2;
        case vmx::FieldWidth::bits32:
            return 4;
        default:
            return 8;
    }
}

// By dense index; 0: KVM has no such field.
inline constexpr auto offsets = [] {
    std::array<std::uint16_t, vmx::field_count> table{};
    for (const detail::Place& place : places)
        table[static_cast<std::size_t>(vmx::dense_index(place.encoding))] = place.offset;
    return table;
}();

// Each field once, none beside its own bytes.
static_assert([] {
    std::array<bool, vmcs_size> taken{};
    for (const detail::Place& place : places) {
        if (vmx::dense_index(place.encoding) < 0 || place.offset % width_of(place.encoding) != 0)
            return false;
        for (std::size_t i = 0; i < width_of(place.encoding); ++i) {
            if (taken[place.offset + i]) return false;
            taken[place.offset + i] = true;
        }
    }
    std::size_t fields = 0;
    for (const std::uint16_t offset : offsets) fields += offset != 0 ? 1 : 0;
    return fields == places.size();
}());

}  // namespace flatback::nested::kvm
