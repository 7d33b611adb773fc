// What `flatback run --depth N` prints and writes.
#pragma once

#include <span>
#include <string>

#include "tools/measure/depths.hpp"

namespace flatback::tools {

[[nodiscard]] std::string render_depth_table(std::span<const DepthMeasurement> depths);

// {"depths": [{"depth": 1, "bare_l1": {…}, "checks": {"passed": N, "failed": […], "in_part": false},
// "linux": {…}}, …]}
[[nodiscard]] std::string depth_json(std::span<const DepthMeasurement> depths);

}  // namespace flatback::tools
