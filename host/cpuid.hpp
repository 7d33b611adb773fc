// What L1 does not find in CPUID: what L0 would have to emulate, or to switch between guests, or what writes
// to memory past EPT (the debug store and processor trace). As on a processor without it, a leaf that only
// tells of such a feature is zero.
#pragma once

#include <cstdint>

#include "../x86/cpuid.hpp"

namespace flatback::host {

namespace hidden {
// clang-format off
inline constexpr std::uint32_t features_ecx = x86::cpuid::features_ecx_smx |
                                              x86::cpuid::features_ecx_osxsave |
                                              1U << 2 /* DTES64 */ | 1U << 4 /* DS-CPL */;
inline constexpr std::uint32_t features_edx = 1U << 21;  // DS
inline constexpr std::uint32_t extended_ebx = x86::cpuid::extended_ebx_sgx | 1U << 25 /* processor trace */;
inline constexpr std::uint32_t os_protection_keys = 1U << 4;
inline constexpr std::uint32_t extended_ecx = os_protection_keys | 1U << 7 /* shadow stacks */ |
                                              1U << 23 /* key locker */ | 1U << 16 /* LA57 */ |
                                              1U << 30 /* SGX LC */ | 1U << 31 /* supervisor keys */;
inline constexpr std::uint32_t extended_edx =
    1U << 5 /* user interrupts */ | 1U << 18 /* PCONFIG */ | 1U << 20 /* indirect-branch tracking */;
inline constexpr std::uint32_t extended_1_eax = 1U << 6 /* LASS */ | 1U << 27 /* MSR lists */ |
                                                1U << 17 /* FRED */ | 1U << 18 /* LKGS */ | 1U << 26 /* LAM */;
// State that XSAVES would save (SDM 1, 13.1): of processor trace, CET (user, supervisor), user interrupts.
inline constexpr std::uint32_t state_components = 1U << 8 | 1U << 11 | 1U << 12 | 1U << 14;
// clang-format on
}  // namespace hidden

namespace leaf {
inline constexpr std::uint32_t sgx = 0x12;
inline constexpr std::uint32_t processor_trace = 0x14;
inline constexpr std::uint32_t key_locker = 0x19;
inline constexpr std::uint32_t pconfig = 0x1B;
}  // namespace leaf

// Leaves of which L1 does not get all that the processor has.
inline constexpr std::uint32_t adjusted_leaves =
    1U << x86::cpuid::leaf_features | 1U << x86::cpuid::leaf_extended_features |
    1U << x86::cpuid::leaf_extended_state | 1U << leaf::sgx | 1U << leaf::processor_trace |
    1U << leaf::key_locker | 1U << leaf::pconfig;
[[nodiscard]] constexpr bool is_adjusted(std::uint32_t leaf) {
    return leaf < 32 && (adjusted_leaves >> leaf & 1) != 0;
}

// Takes out of an answer of the processor's what L1 was not promised. What of it changes with L1's own state
// (OSXSAVE, OSPKE, the local APIC) is the caller's to put back.
constexpr void hide_features(std::uint32_t leaf, std::uint32_t subleaf, x86::CpuidResult& answer) {
    switch (leaf) {
        case x86::cpuid::leaf_features:
            answer.ecx &= ~hidden::features_ecx;
            answer.edx &= ~hidden::features_edx;
            break;
        case x86::cpuid::leaf_extended_features:
            if (subleaf == 0) {
                answer.ebx &= ~hidden::extended_ebx;
                answer.ecx &= ~hidden::extended_ecx;
                answer.edx &= ~hidden::extended_edx;
            } else if (subleaf == 1) {
                answer.eax &= ~hidden::extended_1_eax;
            }
            break;
        case x86::cpuid::leaf_extended_state:
            if (subleaf == 1) answer.ecx &= ~hidden::state_components;
            if (subleaf < 32 && (hidden::state_components >> subleaf & 1) != 0) answer = {};
            break;
        case leaf::sgx:
        case leaf::processor_trace:
        case leaf::key_locker:
        case leaf::pconfig:
            answer = {};
            break;
        default:
            break;
    }
}

}  // namespace flatback::host
