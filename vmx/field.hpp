// VMCS fields as typed constants: SDM 3D appendix B. The encoding's layout is SDM 3C table 25-21
// ("Structure of VMCS Component Encoding"): access type 0, index 9:1, kind 11:10, width 14:13, the rest zero.
#pragma once

#include <cstdint>
#include <type_traits>

namespace flatback::vmx {

enum class FieldWidth : std::uint8_t { bits16 = 0, bits64 = 1, bits32 = 2, natural = 3 };
enum class FieldKind : std::uint8_t { control = 0, exit_information = 1, guest_state = 2, host_state = 3 };

// Decoders of a raw encoding, such as the register operand of VMREAD. Meaningful only where is_well_formed().

// Bits 12 and 63:15 are reserved; no field has one of them set.
constexpr bool is_well_formed(std::uint64_t encoding) {
    return (encoding & ~0x6fffULL) == 0;
}

constexpr FieldWidth width(std::uint64_t encoding) {
    return static_cast<FieldWidth>((encoding >> 13) & 3);
}
constexpr FieldKind kind(std::uint64_t encoding) {
    return static_cast<FieldKind>((encoding >> 10) & 3);
}
constexpr std::uint32_t index(std::uint64_t encoding) {
    return static_cast<std::uint32_t>((encoding >> 1) & 0x1ff);
}

// The access type "high": bits 63:32 of a 64-bit field. No field of another width has a high half.
constexpr bool is_high(std::uint64_t encoding) {
    return (encoding & 1) != 0;
}

// The type that holds a field's value. A natural-width field has 64 bits: Flatback runs on 64-bit processors.
template <FieldWidth W>
using field_value_t =
    std::conditional_t<W == FieldWidth::bits16, std::uint16_t,
                       std::conditional_t<W == FieldWidth::bits32, std::uint32_t, std::uint64_t>>;

namespace detail {
// Not constexpr on purpose: calling it during constant evaluation is the compile error.
void encoding_contradicts_width_or_kind();
}  // namespace detail

// A VMCS field: an encoding whose width and kind are part of the type, so that an access of the wrong width,
// or a write to exit information, can be refused at compile time. Full access type only.
template <FieldWidth W, FieldKind K>
struct Field {
    using Value = field_value_t<W>;
    static constexpr FieldWidth field_width = W;
    static constexpr FieldKind field_kind = K;

    consteval explicit Field(std::uint32_t field_encoding) : encoding(field_encoding) {
        if (!is_well_formed(field_encoding) || is_high(field_encoding) || width(field_encoding) != W ||
            kind(field_encoding) != K) {
            detail::encoding_contradicts_width_or_kind();
        }
    }

    std::uint32_t encoding;
};

template <typename T>
inline constexpr bool is_field = false;
template <FieldWidth W, FieldKind K>
inline constexpr bool is_field<Field<W, K>> = true;
template <typename T>
concept AnyField = is_field<std::remove_cvref_t<T>>;

namespace field {

using Bits16Control = Field<FieldWidth::bits16, FieldKind::control>;
using Bits16Guest = Field<FieldWidth::bits16, FieldKind::guest_state>;
using Bits16Host = Field<FieldWidth::bits16, FieldKind::host_state>;
using Bits64Control = Field<FieldWidth::bits64, FieldKind::control>;
using Bits64Information = Field<FieldWidth::bits64, FieldKind::exit_information>;
using Bits64Guest = Field<FieldWidth::bits64, FieldKind::guest_state>;
using Bits64Host = Field<FieldWidth::bits64, FieldKind::host_state>;
using Bits32Control = Field<FieldWidth::bits32, FieldKind::control>;
using Bits32Information = Field<FieldWidth::bits32, FieldKind::exit_information>;
using Bits32Guest = Field<FieldWidth::bits32, FieldKind::guest_state>;
using Bits32Host = Field<FieldWidth::bits32, FieldKind::host_state>;
using NaturalControl = Field<FieldWidth::natural, FieldKind::control>;
using NaturalInformation = Field<FieldWidth::natural, FieldKind::exit_information>;
using NaturalGuest = Field<FieldWidth::natural, FieldKind::guest_state>;
using NaturalHost = Field<FieldWidth::natural, FieldKind::host_state>;

// clang-format off

// 16-bit control fields (SDM B.1.1)
inline constexpr Bits16Control      virtual_processor_identifier{0x0000};
inline constexpr Bits16Control      posted_interrupt_notification_vector{0x0002};
inline constexpr Bits16Control      eptp_index{0x0004};

// 16-bit guest-state fields (SDM B.1.2)
inline constexpr Bits16Guest        guest_es_selector{0x0800};
inline constexpr Bits16Guest        guest_cs_selector{0x0802};
inline constexpr Bits16Guest        guest_ss_selector{0x0804};
inline constexpr Bits16Guest        guest_ds_selector{0x0806};
inline constexpr Bits16Guest        guest_fs_selector{0x0808};
inline constexpr Bits16Guest        guest_gs_selector{0x080a};
inline constexpr Bits16Guest        guest_ldtr_selector{0x080c};
inline constexpr Bits16Guest        guest_tr_selector{0x080e};
inline constexpr Bits16Guest        guest_interrupt_status{0x0810};
inline constexpr Bits16Guest        pml_index{0x0812};

// 16-bit host-state fields (SDM B.1.3)
inline constexpr Bits16Host         host_es_selector{0x0c00};
inline constexpr Bits16Host         host_cs_selector{0x0c02};
inline constexpr Bits16Host         host_ss_selector{0x0c04};
inline constexpr Bits16Host         host_ds_selector{0x0c06};
inline constexpr Bits16Host         host_fs_selector{0x0c08};
inline constexpr Bits16Host         host_gs_selector{0x0c0a};
inline constexpr Bits16Host         host_tr_selector{0x0c0c};

// 64-bit control fields (SDM B.2.1)
inline constexpr Bits64Control      address_of_io_bitmap_a{0x2000};
inline constexpr Bits64Control      address_of_io_bitmap_b{0x2002};
inline constexpr Bits64Control      address_of_msr_bitmaps{0x2004};
inline constexpr Bits64Control      vm_exit_msr_store_address{0x2006};
inline constexpr Bits64Control      vm_exit_msr_load_address{0x2008};
inline constexpr Bits64Control      vm_entry_msr_load_address{0x200a};
inline constexpr Bits64Control      executive_vmcs_pointer{0x200c};
inline constexpr Bits64Control      pml_address{0x200e};
inline constexpr Bits64Control      tsc_offset{0x2010};
inline constexpr Bits64Control      virtual_apic_address{0x2012};
inline constexpr Bits64Control      apic_access_address{0x2014};
inline constexpr Bits64Control      posted_interrupt_descriptor_address{0x2016};
inline constexpr Bits64Control      vm_function_controls{0x2018};
inline constexpr Bits64Control      ept_pointer{0x201a};
inline constexpr Bits64Control      eoi_exit_bitmap_0{0x201c};
inline constexpr Bits64Control      eoi_exit_bitmap_1{0x201e};
inline constexpr Bits64Control      eoi_exit_bitmap_2{0x2020};
inline constexpr Bits64Control      eoi_exit_bitmap_3{0x2022};
inline constexpr Bits64Control      eptp_list_address{0x2024};
inline constexpr Bits64Control      vmread_bitmap_address{0x2026};
inline constexpr Bits64Control      vmwrite_bitmap_address{0x2028};
inline constexpr Bits64Control      virtualization_exception_information_address{0x202a};
inline constexpr Bits64Control      xss_exiting_bitmap{0x202c};
inline constexpr Bits64Control      encls_exiting_bitmap{0x202e};
inline constexpr Bits64Control      tsc_multiplier{0x2032};

// 64-bit read-only data field (SDM B.2.2)
inline constexpr Bits64Information  guest_physical_address{0x2400};

// 64-bit guest-state fields (SDM B.2.3)
inline constexpr Bits64Guest        vmcs_link_pointer{0x2800};
inline constexpr Bits64Guest        guest_ia32_debugctl{0x2802};
inline constexpr Bits64Guest        guest_ia32_pat{0x2804};
inline constexpr Bits64Guest        guest_ia32_efer{0x2806};
inline constexpr Bits64Guest        guest_ia32_perf_global_ctrl{0x2808};
inline constexpr Bits64Guest        guest_pdpte0{0x280a};
inline constexpr Bits64Guest        guest_pdpte1{0x280c};
inline constexpr Bits64Guest        guest_pdpte2{0x280e};
inline constexpr Bits64Guest        guest_pdpte3{0x2810};
inline constexpr Bits64Guest        guest_ia32_bndcfgs{0x2812};

// 64-bit host-state fields (SDM B.2.4)
inline constexpr Bits64Host         host_ia32_pat{0x2c00};
inline constexpr Bits64Host         host_ia32_efer{0x2c02};
inline constexpr Bits64Host         host_ia32_perf_global_ctrl{0x2c04};

// 32-bit control fields (SDM B.3.1)
inline constexpr Bits32Control      pin_based_vm_execution_controls{0x4000};
inline constexpr Bits32Control      primary_processor_based_vm_execution_controls{0x4002};
inline constexpr Bits32Control      exception_bitmap{0x4004};
inline constexpr Bits32Control      page_fault_error_code_mask{0x4006};
inline constexpr Bits32Control      page_fault_error_code_match{0x4008};
inline constexpr Bits32Control      cr3_target_count{0x400a};
inline constexpr Bits32Control      vm_exit_controls{0x400c};
inline constexpr Bits32Control      vm_exit_msr_store_count{0x400e};
inline constexpr Bits32Control      vm_exit_msr_load_count{0x4010};
inline constexpr Bits32Control      vm_entry_controls{0x4012};
inline constexpr Bits32Control      vm_entry_msr_load_count{0x4014};
inline constexpr Bits32Control      vm_entry_interruption_information{0x4016};
inline constexpr Bits32Control      vm_entry_exception_error_code{0x4018};
inline constexpr Bits32Control      vm_entry_instruction_length{0x401a};
inline constexpr Bits32Control      tpr_threshold{0x401c};
inline constexpr Bits32Control      secondary_processor_based_vm_execution_controls{0x401e};
inline constexpr Bits32Control      ple_gap{0x4020};
inline constexpr Bits32Control      ple_window{0x4022};

// 32-bit read-only data fields (SDM B.3.2)
inline constexpr Bits32Information  vm_instruction_error{0x4400};
inline constexpr Bits32Information  exit_reason{0x4402};
inline constexpr Bits32Information  vm_exit_interruption_information{0x4404};
inline constexpr Bits32Information  vm_exit_interruption_error_code{0x4406};
inline constexpr Bits32Information  idt_vectoring_information{0x4408};
inline constexpr Bits32Information  idt_vectoring_error_code{0x440a};
inline constexpr Bits32Information  vm_exit_instruction_length{0x440c};
inline constexpr Bits32Information  vm_exit_instruction_information{0x440e};

// 32-bit guest-state fields (SDM B.3.3)
inline constexpr Bits32Guest        guest_es_limit{0x4800};
inline constexpr Bits32Guest        guest_cs_limit{0x4802};
inline constexpr Bits32Guest        guest_ss_limit{0x4804};
inline constexpr Bits32Guest        guest_ds_limit{0x4806};
inline constexpr Bits32Guest        guest_fs_limit{0x4808};
inline constexpr Bits32Guest        guest_gs_limit{0x480a};
inline constexpr Bits32Guest        guest_ldtr_limit{0x480c};
inline constexpr Bits32Guest        guest_tr_limit{0x480e};
inline constexpr Bits32Guest        guest_gdtr_limit{0x4810};
inline constexpr Bits32Guest        guest_idtr_limit{0x4812};
inline constexpr Bits32Guest        guest_es_access_rights{0x4814};
inline constexpr Bits32Guest        guest_cs_access_rights{0x4816};
inline constexpr Bits32Guest        guest_ss_access_rights{0x4818};
inline constexpr Bits32Guest        guest_ds_access_rights{0x481a};
inline constexpr Bits32Guest        guest_fs_access_rights{0x481c};
inline constexpr Bits32Guest        guest_gs_access_rights{0x481e};
inline constexpr Bits32Guest        guest_ldtr_access_rights{0x4820};
inline constexpr Bits32Guest        guest_tr_access_rights{0x4822};
inline constexpr Bits32Guest        guest_interruptibility_state{0x4824};
inline constexpr Bits32Guest        guest_activity_state{0x4826};
inline constexpr Bits32Guest        guest_smbase{0x4828};
inline constexpr Bits32Guest        guest_ia32_sysenter_cs{0x482a};
inline constexpr Bits32Guest        vmx_preemption_timer_value{0x482e};

// 32-bit host-state field (SDM B.3.4)
inline constexpr Bits32Host         host_ia32_sysenter_cs{0x4c00};

// Natural-width control fields (SDM B.4.1)
inline constexpr NaturalControl     cr0_guest_host_mask{0x6000};
inline constexpr NaturalControl     cr4_guest_host_mask{0x6002};
inline constexpr NaturalControl     cr0_read_shadow{0x6004};
inline constexpr NaturalControl     cr4_read_shadow{0x6006};
inline constexpr NaturalControl     cr3_target_value_0{0x6008};
inline constexpr NaturalControl     cr3_target_value_1{0x600a};
inline constexpr NaturalControl     cr3_target_value_2{0x600c};
inline constexpr NaturalControl     cr3_target_value_3{0x600e};

// Natural-width read-only data fields (SDM B.4.2)
inline constexpr NaturalInformation exit_qualification{0x6400};
inline constexpr NaturalInformation io_rcx{0x6402};
inline constexpr NaturalInformation io_rsi{0x6404};
inline constexpr NaturalInformation io_rdi{0x6406};
inline constexpr NaturalInformation io_rip{0x6408};
inline constexpr NaturalInformation guest_linear_address{0x640a};

// Natural-width guest-state fields (SDM B.4.3)
inline constexpr NaturalGuest       guest_cr0{0x6800};
inline constexpr NaturalGuest       guest_cr3{0x6802};
inline constexpr NaturalGuest       guest_cr4{0x6804};
inline constexpr NaturalGuest       guest_es_base{0x6806};
inline constexpr NaturalGuest       guest_cs_base{0x6808};
inline constexpr NaturalGuest       guest_ss_base{0x680a};
inline constexpr NaturalGuest       guest_ds_base{0x680c};
inline constexpr NaturalGuest       guest_fs_base{0x680e};
inline constexpr NaturalGuest       guest_gs_base{0x6810};
inline constexpr NaturalGuest       guest_ldtr_base{0x6812};
inline constexpr NaturalGuest       guest_tr_base{0x6814};
inline constexpr NaturalGuest       guest_gdtr_base{0x6816};
inline constexpr NaturalGuest       guest_idtr_base{0x6818};
inline constexpr NaturalGuest       guest_dr7{0x681a};
inline constexpr NaturalGuest       guest_rsp{0x681c};
inline constexpr NaturalGuest       guest_rip{0x681e};
inline constexpr NaturalGuest       guest_rflags{0x6820};
inline constexpr NaturalGuest       guest_pending_debug_exceptions{0x6822};
inline constexpr NaturalGuest       guest_ia32_sysenter_esp{0x6824};
inline constexpr NaturalGuest       guest_ia32_sysenter_eip{0x6826};

// Natural-width host-state fields (SDM B.4.4)
inline constexpr NaturalHost        host_cr0{0x6c00};
inline constexpr NaturalHost        host_cr3{0x6c02};
inline constexpr NaturalHost        host_cr4{0x6c04};
inline constexpr NaturalHost        host_fs_base{0x6c06};
inline constexpr NaturalHost        host_gs_base{0x6c08};
inline constexpr NaturalHost        host_tr_base{0x6c0a};
inline constexpr NaturalHost        host_gdtr_base{0x6c0c};
inline constexpr NaturalHost        host_idtr_base{0x6c0e};
inline constexpr NaturalHost        host_ia32_sysenter_esp{0x6c10};
inline constexpr NaturalHost        host_ia32_sysenter_eip{0x6c12};
inline constexpr NaturalHost        host_rsp{0x6c14};
inline constexpr NaturalHost        host_rip{0x6c16};
// clang-format on

}  // namespace field
}  // namespace flatback::vmx
