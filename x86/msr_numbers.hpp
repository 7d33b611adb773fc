// Model-specific registers by number (SDM vol. 4, table 2-2), and the bits of some. Layouts alone, which
// decide nothing.
#pragma once

#include <cstdint>

// clang-format off
namespace flatback::x86::msr {

inline constexpr std::uint32_t ia32_tsc                       = 0x0000'0010;
inline constexpr std::uint32_t ia32_platform_id               = 0x0000'0017;
inline constexpr std::uint32_t ia32_apic_base                 = 0x0000'001b;
inline constexpr std::uint32_t ia32_feature_control           = 0x0000'003a;
inline constexpr std::uint32_t ia32_tsc_adjust                = 0x0000'003b;
inline constexpr std::uint32_t ia32_spec_ctrl                 = 0x0000'0048;
inline constexpr std::uint32_t ia32_pred_cmd                  = 0x0000'0049;
inline constexpr std::uint32_t ia32_bios_updt_trig            = 0x0000'0079;
inline constexpr std::uint32_t ia32_bios_sign_id              = 0x0000'008b;
inline constexpr std::uint32_t ia32_smm_monitor_ctl           = 0x0000'009b;
inline constexpr std::uint32_t ia32_smbase                    = 0x0000'009e;
inline constexpr std::uint32_t ia32_mtrrcap                   = 0x0000'00fe;
inline constexpr std::uint32_t ia32_arch_capabilities         = 0x0000'010a;
inline constexpr std::uint32_t ia32_flush_cmd                 = 0x0000'010b;
inline constexpr std::uint32_t ia32_sysenter_cs               = 0x0000'0174;
inline constexpr std::uint32_t ia32_sysenter_esp              = 0x0000'0175;
inline constexpr std::uint32_t ia32_sysenter_eip              = 0x0000'0176;
inline constexpr std::uint32_t ia32_mcg_cap                   = 0x0000'0179;
inline constexpr std::uint32_t ia32_mcg_status                = 0x0000'017a;
inline constexpr std::uint32_t ia32_misc_enable               = 0x0000'01a0;
inline constexpr std::uint32_t ia32_debugctl                  = 0x0000'01d9;
inline constexpr std::uint32_t ia32_mtrr_physbase0            = 0x0000'0200;
inline constexpr std::uint32_t ia32_mtrr_fix64k_00000         = 0x0000'0250;
inline constexpr std::uint32_t ia32_pat                       = 0x0000'0277;
inline constexpr std::uint32_t ia32_mtrr_def_type             = 0x0000'02ff;
inline constexpr std::uint32_t ia32_perf_global_status        = 0x0000'038e;
inline constexpr std::uint32_t ia32_perf_global_ctrl          = 0x0000'038f;
inline constexpr std::uint32_t ia32_vmx_basic                 = 0x0000'0480;
inline constexpr std::uint32_t ia32_vmx_pinbased_ctls         = 0x0000'0481;
inline constexpr std::uint32_t ia32_vmx_procbased_ctls        = 0x0000'0482;
inline constexpr std::uint32_t ia32_vmx_exit_ctls             = 0x0000'0483;
inline constexpr std::uint32_t ia32_vmx_entry_ctls            = 0x0000'0484;
inline constexpr std::uint32_t ia32_vmx_misc                  = 0x0000'0485;
inline constexpr std::uint32_t ia32_vmx_cr0_fixed0            = 0x0000'0486;
inline constexpr std::uint32_t ia32_vmx_cr0_fixed1            = 0x0000'0487;
inline constexpr std::uint32_t ia32_vmx_cr4_fixed0            = 0x0000'0488;
inline constexpr std::uint32_t ia32_vmx_cr4_fixed1            = 0x0000'0489;
inline constexpr std::uint32_t ia32_vmx_vmcs_enum             = 0x0000'048a;
inline constexpr std::uint32_t ia32_vmx_procbased_ctls2       = 0x0000'048b;
inline constexpr std::uint32_t ia32_vmx_ept_vpid_cap          = 0x0000'048c;
inline constexpr std::uint32_t ia32_vmx_true_pinbased_ctls    = 0x0000'048d;
inline constexpr std::uint32_t ia32_vmx_true_procbased_ctls   = 0x0000'048e;
inline constexpr std::uint32_t ia32_vmx_true_exit_ctls        = 0x0000'048f;
inline constexpr std::uint32_t ia32_vmx_true_entry_ctls       = 0x0000'0490;
inline constexpr std::uint32_t ia32_vmx_vmfunc                = 0x0000'0491;
inline constexpr std::uint32_t ia32_vmx_procbased_ctls3       = 0x0000'0492;
inline constexpr std::uint32_t ia32_tsc_deadline              = 0x0000'06e0;
inline constexpr std::uint32_t x2apic_first                   = 0x0000'0800;
inline constexpr std::uint32_t x2apic_last                    = 0x0000'08ff;
inline constexpr std::uint32_t ia32_bndcfgs                   = 0x0000'0d90;
inline constexpr std::uint32_t ia32_xss                       = 0x0000'0da0;
inline constexpr std::uint32_t ia32_efer                      = 0xc000'0080;
inline constexpr std::uint32_t ia32_star                      = 0xc000'0081;
inline constexpr std::uint32_t ia32_lstar                     = 0xc000'0082;
inline constexpr std::uint32_t ia32_cstar                     = 0xc000'0083;
inline constexpr std::uint32_t ia32_fmask                     = 0xc000'0084;
inline constexpr std::uint32_t ia32_fs_base                   = 0xc000'0100;
inline constexpr std::uint32_t ia32_gs_base                   = 0xc000'0101;
inline constexpr std::uint32_t ia32_kernel_gs_base            = 0xc000'0102;
inline constexpr std::uint32_t ia32_tsc_aux                   = 0xc000'0103;

}  // namespace flatback::x86::msr

// IA32_FEATURE_CONTROL (SDM vol. 4, 3AH).
namespace flatback::x86::feature_control {
inline constexpr std::uint64_t locked               = 1ULL << 0;
inline constexpr std::uint64_t vmx_inside_smx       = 1ULL << 1;
inline constexpr std::uint64_t vmx_outside_smx      = 1ULL << 2;
}  // namespace flatback::x86::feature_control

// IA32_APIC_BASE (SDM 3A 11.4.4).
namespace flatback::x86::apic_base {
inline constexpr std::uint64_t bootstrap_processor  = 1ULL << 8;
inline constexpr std::uint64_t x2apic_enable        = 1ULL << 10;  // EXTD
inline constexpr std::uint64_t global_enable        = 1ULL << 11;  // EN
inline constexpr std::uint64_t reserved_bits        = 0x2ff;       // and from the physical-address width up
inline constexpr std::uint64_t address_mask         = 0x000f'ffff'ffff'f000;
}  // namespace flatback::x86::apic_base
// clang-format on
