// What single operations cost on Flatback and on the peer, in ticks.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/measure/measurements.hpp"

namespace flatback::tools {

// L0's own part of one reflected exit and the entry after it, a primitive's name: a CPUID of L2's through
// Linux as L1, less what the same KVM takes for one where nothing is nested. Only the peer's run has the
// latter.
inline constexpr std::string_view l0_ticks_per_l2_entry = "l0_ticks_per_l2_entry";
// The same by the bare L1: one round of its, less the same round without any L0.
inline constexpr std::string_view l0_ticks_per_bare_l2_entry = "l0_ticks_per_bare_l2_entry";

struct Primitive {
    std::string_view name;  // its key in JSON
    std::string_view title;
    std::optional<double> flatback;
    std::optional<double> kvm;  // none where the peer is not measured
    bool only_kvm = false;      // Flatback has nothing like it, or it takes the peer's run to know
};

// Through Linux as L1, then by the bare L1, last what is computed from these.
[[nodiscard]] std::vector<Primitive> primitives(const Measurements& measurements);

[[nodiscard]] const Primitive& primitive(const std::vector<Primitive>& all, std::string_view name);

// What a run has not printed, by name.
[[nodiscard]] std::vector<std::string> missing_primitives(const Measurements& measurements, bool with_kvm);

}  // namespace flatback::tools
