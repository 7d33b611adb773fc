// What `flatback run --depth N` and `--beneath NAME` print and write.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "tools/measure/depths.hpp"

namespace flatback::tools {

// The table of Flatback on itself, or on another hypervisor, whose name is `beneath`.
[[nodiscard]] std::string render_depth_table(std::span<const DepthMeasurement> depths,
                                             std::string_view beneath = {});

// {"beneath": null, "depths": [{"depth": 1, "bare_l1": {…}, "checks": {"passed": N, "failed": […], "in_part":
// false}, "linux": {…}}, …]}
[[nodiscard]] std::string depth_json(std::span<const DepthMeasurement> depths, std::string_view beneath = {});

}  // namespace flatback::tools
