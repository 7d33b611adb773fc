// VM-execution, VM-exit and VM-entry controls, and exit reasons, that this guest uses: SDM 3C 25.6 to 25.8, appendix C.
#pragma once

#include <cstdint>

namespace flatback::guests {

namespace pin {
constexpr std::uint32_t external_interrupt_exiting = 1U << 0;
constexpr std::uint32_t nmi_exiting = 1U << 3;
constexpr std::uint32_t virtual_nmis = 1U << 5;
constexpr std::uint32_t activate_preemption_timer = 1U << 6;
}  // namespace pin

namespace primary {
constexpr std::uint32_t interrupt_window_exiting = 1U << 2;
constexpr std::uint32_t use_tsc_offsetting = 1U << 3;
constexpr std::uint32_t hlt_exiting = 1U << 7;
constexpr std::uint32_t invlpg_exiting = 1U << 9;
constexpr std::uint32_t mwait_exiting = 1U << 10;
constexpr std::uint32_t rdpmc_exiting = 1U << 11;
constexpr std::uint32_t rdtsc_exiting = 1U << 12;
constexpr std::uint32_t cr3_load_exiting = 1U << 15;
constexpr std::uint32_t cr3_store_exiting = 1U << 16;
constexpr std::uint32_t cr8_load_exiting = 1U << 19;
constexpr std::uint32_t cr8_store_exiting = 1U << 20;
constexpr std::uint32_t use_tpr_shadow = 1U << 21;
constexpr std::uint32_t nmi_window_exiting = 1U << 22;
constexpr std::uint32_t mov_dr_exiting = 1U << 23;
constexpr std::uint32_t unconditional_io_exiting = 1U << 24;
constexpr std::uint32_t use_io_bitmaps = 1U << 25;
constexpr std::uint32_t monitor_trap_flag = 1U << 27;
constexpr std::uint32_t use_msr_bitmaps = 1U << 28;
constexpr std::uint32_t monitor_exiting = 1U << 29;
constexpr std::uint32_t pause_exiting = 1U << 30;
constexpr std::uint32_t activate_secondary = 1U << 31;
}  // namespace primary

namespace secondary {
constexpr std::uint32_t enable_ept = 1U << 1;
constexpr std::uint32_t descriptor_table_exiting = 1U << 2;
constexpr std::uint32_t enable_rdtscp = 1U << 3;
constexpr std::uint32_t enable_vpid = 1U << 5;
constexpr std::uint32_t wbinvd_exiting = 1U << 6;
constexpr std::uint32_t unrestricted_guest = 1U << 7;
constexpr std::uint32_t enable_invpcid = 1U << 12;
}  // namespace secondary

namespace exit_control {
constexpr std::uint32_t save_debug_controls = 1U << 2;
constexpr std::uint32_t host_address_space_size = 1U << 9;
constexpr std::uint32_t acknowledge_interrupt_on_exit = 1U << 15;
constexpr std::uint32_t save_pat = 1U << 18;
constexpr std::uint32_t load_pat = 1U << 19;
constexpr std::uint32_t save_efer = 1U << 20;
constexpr std::uint32_t load_efer = 1U << 21;
constexpr std::uint32_t save_preemption_timer = 1U << 22;
}  // namespace exit_control

namespace entry_control {
constexpr std::uint32_t load_debug_controls = 1U << 2;
constexpr std::uint32_t ia32e_mode_guest = 1U << 9;
constexpr std::uint32_t entry_to_smm = 1U << 10;
constexpr std::uint32_t load_pat = 1U << 14;
constexpr std::uint32_t load_efer = 1U << 15;
}  // namespace entry_control

namespace reason {
constexpr std::uint32_t exception_or_nmi = 0;
constexpr std::uint32_t external_interrupt = 1;
constexpr std::uint32_t triple_fault = 2;
constexpr std::uint32_t interrupt_window = 7;
constexpr std::uint32_t nmi_window = 8;
constexpr std::uint32_t cpuid = 10;
constexpr std::uint32_t hlt = 12;
constexpr std::uint32_t invlpg = 14;
constexpr std::uint32_t rdtsc = 16;
constexpr std::uint32_t vmcall = 18;
constexpr std::uint32_t vmclear = 19;
constexpr std::uint32_t vmlaunch = 20;
constexpr std::uint32_t vmptrld = 21;
constexpr std::uint32_t vmptrst = 22;
constexpr std::uint32_t vmread = 23;
constexpr std::uint32_t vmresume = 24;
constexpr std::uint32_t vmwrite = 25;
constexpr std::uint32_t vmxoff = 26;
constexpr std::uint32_t vmxon = 27;
constexpr std::uint32_t cr_access = 28;
constexpr std::uint32_t mov_dr = 29;
constexpr std::uint32_t io_instruction = 30;
constexpr std::uint32_t rdmsr = 31;
constexpr std::uint32_t wrmsr = 32;
constexpr std::uint32_t invalid_guest_state = 33;
constexpr std::uint32_t msr_loading = 34;
constexpr std::uint32_t gdtr_or_idtr = 46;
constexpr std::uint32_t ldtr_or_tr = 47;
constexpr std::uint32_t ept_violation = 48;
constexpr std::uint32_t ept_misconfiguration = 49;
constexpr std::uint32_t invept = 50;
constexpr std::uint32_t preemption_timer = 52;
constexpr std::uint32_t invvpid = 53;
constexpr std::uint32_t entry_failure = 1U << 31;  // the flag beside the basic reason
}  // namespace reason

}  // namespace flatback::guests
