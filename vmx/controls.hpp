// VM-execution, VM-exit and VM-entry control bits (SDM 3C 25.6 to 25.8), in one namespace a field.
#pragma once

#include <cstdint>

// clang-format off
namespace flatback::vmx {

// Pin-based VM-execution controls (SDM 3C table 25-5).
namespace pin {
inline constexpr std::uint32_t external_interrupt_exiting      = 1u << 0;
inline constexpr std::uint32_t nmi_exiting                     = 1u << 3;
inline constexpr std::uint32_t virtual_nmis                    = 1u << 5;
inline constexpr std::uint32_t activate_vmx_preemption_timer   = 1u << 6;
inline constexpr std::uint32_t process_posted_interrupts       = 1u << 7;
inline constexpr std::uint32_t default1                        = 0x0000'0016;  // SDM 3D A.3.1
}  // namespace pin

// Primary processor-based VM-execution controls (SDM 3C table 25-6).
namespace primary {
inline constexpr std::uint32_t interrupt_window_exiting        = 1u << 2;
inline constexpr std::uint32_t use_tsc_offsetting              = 1u << 3;
inline constexpr std::uint32_t hlt_exiting                     = 1u << 7;
inline constexpr std::uint32_t invlpg_exiting                  = 1u << 9;
inline constexpr std::uint32_t mwait_exiting                   = 1u << 10;
inline constexpr std::uint32_t rdpmc_exiting                   = 1u << 11;
inline constexpr std::uint32_t rdtsc_exiting                   = 1u << 12;
inline constexpr std::uint32_t cr3_load_exiting                = 1u << 15;
inline constexpr std::uint32_t cr3_store_exiting               = 1u << 16;
inline constexpr std::uint32_t activate_tertiary_controls      = 1u << 17;
inline constexpr std::uint32_t cr8_load_exiting                = 1u << 19;
inline constexpr std::uint32_t cr8_store_exiting               = 1u << 20;
inline constexpr std::uint32_t use_tpr_shadow                  = 1u << 21;
inline constexpr std::uint32_t nmi_window_exiting              = 1u << 22;
inline constexpr std::uint32_t mov_dr_exiting                  = 1u << 23;
inline constexpr std::uint32_t unconditional_io_exiting        = 1u << 24;
inline constexpr std::uint32_t use_io_bitmaps                  = 1u << 25;
inline constexpr std::uint32_t monitor_trap_flag               = 1u << 27;
inline constexpr std::uint32_t use_msr_bitmaps                 = 1u << 28;
inline constexpr std::uint32_t monitor_exiting                 = 1u << 29;
inline constexpr std::uint32_t pause_exiting                   = 1u << 30;
inline constexpr std::uint32_t activate_secondary_controls     = 1u << 31;
inline constexpr std::uint32_t default1                        = 0x0401'e172;  // SDM 3D A.3.2
}  // namespace primary

// Secondary processor-based VM-execution controls (SDM 3C table 25-7).
namespace secondary {
inline constexpr std::uint32_t virtualize_apic_accesses        = 1u << 0;
inline constexpr std::uint32_t enable_ept                      = 1u << 1;
inline constexpr std::uint32_t descriptor_table_exiting        = 1u << 2;
inline constexpr std::uint32_t enable_rdtscp                   = 1u << 3;
inline constexpr std::uint32_t virtualize_x2apic_mode          = 1u << 4;
inline constexpr std::uint32_t enable_vpid                     = 1u << 5;
inline constexpr std::uint32_t wbinvd_exiting                  = 1u << 6;
inline constexpr std::uint32_t unrestricted_guest              = 1u << 7;
inline constexpr std::uint32_t apic_register_virtualization    = 1u << 8;
inline constexpr std::uint32_t virtual_interrupt_delivery      = 1u << 9;
inline constexpr std::uint32_t pause_loop_exiting              = 1u << 10;
inline constexpr std::uint32_t rdrand_exiting                  = 1u << 11;
inline constexpr std::uint32_t enable_invpcid                  = 1u << 12;
inline constexpr std::uint32_t enable_vm_functions             = 1u << 13;
inline constexpr std::uint32_t vmcs_shadowing                  = 1u << 14;
inline constexpr std::uint32_t enable_encls_exiting            = 1u << 15;
inline constexpr std::uint32_t rdseed_exiting                  = 1u << 16;
inline constexpr std::uint32_t enable_pml                      = 1u << 17;
inline constexpr std::uint32_t ept_violation_ve                = 1u << 18;
inline constexpr std::uint32_t conceal_vmx_from_pt             = 1u << 19;
inline constexpr std::uint32_t enable_xsaves_xrstors           = 1u << 20;
inline constexpr std::uint32_t mode_based_execute_control      = 1u << 22;
inline constexpr std::uint32_t sub_page_write_permissions      = 1u << 23;
inline constexpr std::uint32_t pt_uses_guest_physical          = 1u << 24;
inline constexpr std::uint32_t use_tsc_scaling                 = 1u << 25;
inline constexpr std::uint32_t enable_user_wait_and_pause      = 1u << 26;
inline constexpr std::uint32_t enable_pconfig                  = 1u << 27;
inline constexpr std::uint32_t enable_enclv_exiting            = 1u << 28;
}  // namespace secondary

// VM-exit controls (SDM 3C table 25-13).
namespace exit_control {
inline constexpr std::uint32_t save_debug_controls             = 1u << 2;
inline constexpr std::uint32_t host_address_space_size         = 1u << 9;
inline constexpr std::uint32_t load_ia32_perf_global_ctrl      = 1u << 12;
inline constexpr std::uint32_t acknowledge_interrupt_on_exit   = 1u << 15;
inline constexpr std::uint32_t save_ia32_pat                   = 1u << 18;
inline constexpr std::uint32_t load_ia32_pat                   = 1u << 19;
inline constexpr std::uint32_t save_ia32_efer                  = 1u << 20;
inline constexpr std::uint32_t load_ia32_efer                  = 1u << 21;
inline constexpr std::uint32_t save_vmx_preemption_timer_value = 1u << 22;
inline constexpr std::uint32_t clear_ia32_bndcfgs              = 1u << 23;
inline constexpr std::uint32_t conceal_vmx_from_pt             = 1u << 24;
inline constexpr std::uint32_t clear_ia32_rtit_ctl             = 1u << 25;
inline constexpr std::uint32_t load_cet_state                  = 1u << 28;
inline constexpr std::uint32_t load_pkrs                       = 1u << 29;
inline constexpr std::uint32_t default1                        = 0x0003'6dff;  // SDM 3D A.4
}  // namespace exit_control

// VM-entry controls (SDM 3C table 25-15).
namespace entry_control {
inline constexpr std::uint32_t load_debug_controls             = 1u << 2;
inline constexpr std::uint32_t ia32e_mode_guest                = 1u << 9;
inline constexpr std::uint32_t entry_to_smm                    = 1u << 10;
inline constexpr std::uint32_t deactivate_dual_monitor         = 1u << 11;
inline constexpr std::uint32_t load_ia32_perf_global_ctrl      = 1u << 13;
inline constexpr std::uint32_t load_ia32_pat                   = 1u << 14;
inline constexpr std::uint32_t load_ia32_efer                  = 1u << 15;
inline constexpr std::uint32_t load_ia32_bndcfgs               = 1u << 16;
inline constexpr std::uint32_t conceal_vmx_from_pt             = 1u << 17;
inline constexpr std::uint32_t load_ia32_rtit_ctl              = 1u << 18;
inline constexpr std::uint32_t load_cet_state                  = 1u << 20;
inline constexpr std::uint32_t load_pkrs                       = 1u << 22;
inline constexpr std::uint32_t default1                        = 0x0000'11ff;  // SDM 3D A.5
}  // namespace entry_control

// VM-function controls (SDM 3C table 25-10).
namespace vm_function {
inline constexpr std::uint64_t eptp_switching                  = 1ULL << 0;
}  // namespace vm_function

}  // namespace flatback::vmx
// clang-format on
