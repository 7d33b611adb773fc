// CPUID as L1 is promised: the processor's, without what L0 would have to emulate, or to switch between
// guests, or what writes to memory past EPT (the debug store and processor trace). As on a processor without
// it, a leaf that only tells of such a feature is zero.
//
// Touches no hardware by itself: see CpuidHost.
#pragma once

#include <concepts>
#include <cstdint>

#include "../vmx/field.hpp"
#include "../x86/control_registers.hpp"
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
                                                1U << 17 /* FRED */ | 1U << 18 /* LKGS */ | x86::cpuid::extended_1_eax_lam;
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

// The four registers as the instruction leaves them: their upper halves are 0.
struct CpuidRegisters {
    std::uint64_t rax = 0;
    std::uint64_t rbx = 0;
    std::uint64_t rcx = 0;
    std::uint64_t rdx = 0;
};

template <typename H>
concept CpuidHost = requires(H& host, std::uint32_t leaf, unsigned number) {
    // L1's; 0 RAX, 1 RCX, 2 RDX, 3 RBX.
    { host.general_register(number) } -> std::same_as<std::uint64_t&>;
    { host.get(vmx::field::guest_cr4) } -> std::same_as<std::uint64_t>;
    // The processor's answer.
    { host.cpuid(leaf, leaf) } -> std::same_as<CpuidRegisters>;
    // Leaves 4000_0000H to 4000_00FFH are the hypervisor's own.
    { host.hypervisor_leaf(leaf, leaf) } -> std::same_as<CpuidRegisters>;
    // IA32_APIC_BASE.EN of L1's.
    { host.apic_enabled() } -> std::same_as<bool>;
};

namespace detail {

template <CpuidHost H>
[[gnu::always_inline]] inline void put_cpuid(H& host, const CpuidRegisters& answer) {
    host.general_register(0) = answer.rax;
    host.general_register(3) = answer.rbx;
    host.general_register(1) = answer.rcx;
    host.general_register(2) = answer.rdx;
}

// The leaves of features, in L1's registers already.
template <CpuidHost H>
[[gnu::noinline]] void adjust_features(H host, std::uint32_t leaf, std::uint32_t subleaf) {
    x86::CpuidResult answer{
        .eax = static_cast<std::uint32_t>(host.general_register(0)),
        .ebx = static_cast<std::uint32_t>(host.general_register(3)),
        .ecx = static_cast<std::uint32_t>(host.general_register(1)),
        .edx = static_cast<std::uint32_t>(host.general_register(2)),
    };
    hide_features(leaf, subleaf, answer);
    const std::uint64_t cr4 = host.get(vmx::field::guest_cr4);
    if (leaf == x86::cpuid::leaf_features) {
        answer.ecx |= x86::cpuid::features_ecx_vmx | x86::cpuid::features_ecx_hypervisor;
        if ((cr4 & x86::cr4::xsave_enable) != 0) answer.ecx |= x86::cpuid::features_ecx_osxsave;
        if (!host.apic_enabled()) answer.edx &= ~x86::cpuid::features_edx_apic;
    } else if (leaf == x86::cpuid::leaf_extended_features && subleaf == 0) {
        if ((cr4 & x86::cr4::protection_key_enable) != 0) answer.ecx |= hidden::os_protection_keys;
    }
    put_cpuid(host, {answer.eax, answer.ebx, answer.ecx, answer.edx});
}

template <CpuidHost H>
[[gnu::noinline]] void answer_hypervisor_leaf(H host, std::uint32_t leaf, std::uint32_t subleaf) {
    put_cpuid(host, host.hypervisor_leaf(leaf, subleaf));
}

}  // namespace detail

// The instruction, but for RIP. Of a hypervisor's exits it is the most frequent, so that it is inlined; and
// the host is a view, taken by value to stay in registers.
template <CpuidHost H>
[[gnu::always_inline]] inline void emulate_cpuid(H host) {
    const auto leaf = static_cast<std::uint32_t>(host.general_register(0));
    const auto subleaf = static_cast<std::uint32_t>(host.general_register(1));
    if (leaf - x86::cpuid::leaf_hypervisor < 0x100) [[unlikely]] {
        detail::answer_hypervisor_leaf(host, leaf, subleaf);
        return;
    }
    detail::put_cpuid(host, host.cpuid(leaf, subleaf));
    if (is_adjusted(leaf)) [[unlikely]]
        detail::adjust_features(host, leaf, subleaf);
}

}  // namespace flatback::host
