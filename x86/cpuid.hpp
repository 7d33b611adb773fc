// CPUID leaves and the feature bits in use (SDM 2A "CPUID").
#pragma once

#include <cstdint>

namespace flatback::x86 {

struct CpuidResult {
    std::uint32_t eax = 0;
    std::uint32_t ebx = 0;
    std::uint32_t ecx = 0;
    std::uint32_t edx = 0;

    friend constexpr bool operator==(const CpuidResult&, const CpuidResult&) = default;
};

// clang-format off
namespace cpuid {

inline constexpr std::uint32_t leaf_vendor                = 0x0000'0000;
inline constexpr std::uint32_t leaf_features              = 0x0000'0001;
inline constexpr std::uint32_t leaf_extended_features     = 0x0000'0007;
inline constexpr std::uint32_t leaf_performance           = 0x0000'000a;
inline constexpr std::uint32_t leaf_extended_state        = 0x0000'000d;
inline constexpr std::uint32_t leaf_tsc_frequency         = 0x0000'0015;
inline constexpr std::uint32_t leaf_processor_frequency   = 0x0000'0016;
inline constexpr std::uint32_t leaf_hypervisor            = 0x4000'0000;
inline constexpr std::uint32_t leaf_highest_extended      = 0x8000'0000;
inline constexpr std::uint32_t leaf_amd_features          = 0x8000'0001;
inline constexpr std::uint32_t leaf_address_sizes         = 0x8000'0008;  // EAX 7:0 MAXPHYADDR, 15:8 linear width

// CPUID.01H:ECX
inline constexpr std::uint32_t features_ecx_monitor       = 1u << 3;
inline constexpr std::uint32_t features_ecx_vmx           = 1u << 5;
inline constexpr std::uint32_t features_ecx_smx           = 1u << 6;
inline constexpr std::uint32_t features_ecx_pdcm          = 1u << 15;
inline constexpr std::uint32_t features_ecx_pcid          = 1u << 17;
inline constexpr std::uint32_t features_ecx_x2apic        = 1u << 21;
inline constexpr std::uint32_t features_ecx_tsc_deadline  = 1u << 24;
inline constexpr std::uint32_t features_ecx_xsave         = 1u << 26;
inline constexpr std::uint32_t features_ecx_osxsave       = 1u << 27;
inline constexpr std::uint32_t features_ecx_rdrand        = 1u << 30;
inline constexpr std::uint32_t features_ecx_hypervisor    = 1u << 31;
// CPUID.01H:EDX
inline constexpr std::uint32_t features_edx_pse           = 1u << 3;
inline constexpr std::uint32_t features_edx_msr           = 1u << 5;
inline constexpr std::uint32_t features_edx_pae           = 1u << 6;
inline constexpr std::uint32_t features_edx_apic          = 1u << 9;
inline constexpr std::uint32_t features_edx_pge           = 1u << 13;
inline constexpr std::uint32_t features_edx_pat           = 1u << 16;
// CPUID.(07H,0):EBX
inline constexpr std::uint32_t extended_ebx_fsgsbase      = 1u << 0;
inline constexpr std::uint32_t extended_ebx_tsc_adjust    = 1u << 1;
inline constexpr std::uint32_t extended_ebx_sgx           = 1u << 2;
inline constexpr std::uint32_t extended_ebx_smep          = 1u << 7;
inline constexpr std::uint32_t extended_ebx_invpcid       = 1u << 10;
inline constexpr std::uint32_t extended_ebx_rtm           = 1u << 11;
inline constexpr std::uint32_t extended_ebx_mpx           = 1u << 14;
inline constexpr std::uint32_t extended_ebx_rdseed        = 1u << 18;
inline constexpr std::uint32_t extended_ebx_smap          = 1u << 20;
inline constexpr std::uint32_t extended_ebx_processor_trace = 1u << 25;
// CPUID.(07H,0):ECX
inline constexpr std::uint32_t extended_ecx_umip          = 1u << 2;
inline constexpr std::uint32_t extended_ecx_pku           = 1u << 3;
inline constexpr std::uint32_t extended_ecx_la57          = 1u << 16;
// CPUID.(07H,1):EAX
inline constexpr std::uint32_t extended_1_eax_lam         = 1u << 26;
// CPUID.(0DH,1):EAX
inline constexpr std::uint32_t extended_state_eax_xsaves  = 1u << 3;
// CPUID.80000001H:EDX
inline constexpr std::uint32_t amd_edx_syscall            = 1u << 11;
inline constexpr std::uint32_t amd_edx_execute_disable    = 1u << 20;
inline constexpr std::uint32_t amd_edx_page_1g            = 1u << 26;
inline constexpr std::uint32_t amd_edx_rdtscp             = 1u << 27;
inline constexpr std::uint32_t amd_edx_long_mode          = 1u << 29;

}  // namespace cpuid
// clang-format on

}  // namespace flatback::x86
