#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>

#include "../../vmx/capability.hpp"
#include "../../vmx/field_table.hpp"

namespace flatback::machine {

/// What the modelled processor has: its VMX capability MSRs and the features that change how it translates.
/// Every control that can be set here does what the SDM says; what is not modelled cannot be set.
struct ProcessorModel {
    vmx::Capabilities vmx{};
    unsigned physical_address_bits = 46;
    bool pages_of_1g = true;
    bool pcid = true;
    bool invpcid = true;
    bool smep = true;
    bool smap = true;
    /// VMCS fields that VMREAD and VMWRITE refuse, by dense index (vmx/field_table.hpp).
    std::bitset<vmx::field_count> absent_fields{};

    [[nodiscard]] bool has_field(std::uint64_t encoding) const {
        const int index = vmx::dense_index(encoding);
        return index >= 0 && !absent_fields[static_cast<std::size_t>(index)];
    }
};

/// A processor with all that the machine models.
[[nodiscard]] ProcessorModel full_processor_model();

}  // namespace flatback::machine
