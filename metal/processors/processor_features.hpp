// What L0 and the promise to L1 go by, of one processor: the same for every one that L1 gets.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "x86/cpuid.hpp"
#include "x86/msr.hpp"

namespace flatback::metal {

struct ProcessorFeatures {
    static constexpr std::array leaves{x86::cpuid::leaf_features, x86::cpuid::leaf_amd_features,
                                       x86::cpuid::leaf_address_sizes};

    // From IA32_VMX_BASIC on; where a processor has the MSR.
    std::array<std::optional<std::uint64_t>,
               x86::msr::ia32_vmx_procbased_ctls3 - x86::msr::ia32_vmx_basic + 1>
        vmx;
    std::array<x86::CpuidResult, leaves.size()> cpuid;
};

// Of the processor that asks.
[[nodiscard]] ProcessorFeatures own_features();

// In what the other one is not as the first; null: in nothing that L0 goes by.
[[nodiscard]] const char* difference(const ProcessorFeatures& first, const ProcessorFeatures& other);

}  // namespace flatback::metal
