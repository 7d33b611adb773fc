// L1's own registers: made as at the start for each case, and what of them a VM exit must have set right.
#pragma once

#include <cstdint>

namespace flatback::guests {

// Control and debug registers, EFER and the other MSRs that cases change, descriptor tables; NMIs unblocked,
// pending interrupts taken.
void reset_l1_state();

// The MSRs that cases use: every one is set anew by reset_l1_state.
constexpr std::uint32_t msr_star = 0xC0000081;
constexpr std::uint32_t msr_lstar = 0xC0000082;
constexpr std::uint32_t msr_cstar = 0xC0000083;
constexpr std::uint32_t msr_fmask = 0xC0000084;
constexpr std::uint32_t msr_fs_base = 0xC0000100;
constexpr std::uint32_t msr_gs_base = 0xC0000101;
constexpr std::uint32_t msr_kernel_gs_base = 0xC0000102;
constexpr std::uint32_t msr_tsc_aux = 0xC0000103;
constexpr std::uint32_t msr_sysenter_cs = 0x174;
constexpr std::uint32_t msr_sysenter_esp = 0x175;
constexpr std::uint32_t msr_sysenter_eip = 0x176;
constexpr std::uint64_t usual_pat = 0x0007040600070406;
constexpr std::uint64_t usual_efer = 0xD01;  // SCE, LME, LMA, NXE

// A checksum of them, or a line of the log for each.
std::uint64_t l1_checksum();
void print_l1_state();

}  // namespace flatback::guests
