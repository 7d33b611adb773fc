#pragma once

#include <cstdint>

#include "../rules/capability.hpp"

namespace flatback::machine {

/// What the modelled processor has: its VMX capability MSRs and the features that change how it translates.
/// Every control that can be set here does what the SDM says; what is not modelled cannot be set.
struct ProcessorModel {
    rules::Capabilities vmx{};
    unsigned physical_address_bits = 46;
    bool pages_of_1g = true;
    bool pcid = true;
    bool invpcid = true;
    bool smep = true;
    bool smap = true;
    bool under_hypervisor = false;  // CPUID says so

    [[nodiscard]] bool has_field(std::uint64_t encoding) const { return vmx.has_field(encoding); }
};

/// A processor with all that the machine models.
[[nodiscard]] ProcessorModel full_processor_model();

}  // namespace flatback::machine
