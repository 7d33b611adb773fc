#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "machine/cpu/processor_model.hpp"

namespace flatback::machine {

/// What differs between the guests that programs prepare.
struct GuestSettings {
    std::uint16_t vpid = 0;    // 0: "enable VPID" = 0
    std::uint64_t ept = 0;     // EPT hierarchy + 1; 0: "enable EPT" = 0
    std::uint64_t tables = 0;  // page hierarchy
};

/// The VMWRITEs, in order, that make a 64-bit guest with the layout's host state: encodings and values.
[[nodiscard]] std::vector<std::pair<std::uint64_t, std::uint64_t>> guest_fields(
    const ProcessorModel& model, const GuestSettings& settings);

}  // namespace flatback::machine
