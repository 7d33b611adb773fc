// What `flatback bench` prints, and what it writes with --json (docs/bench.md).
#pragma once

#include <string>
#include <vector>

#include "tools/measure/measurements.hpp"

namespace flatback::tools {

// What the runs have not printed, by name; the report needs all of it.
[[nodiscard]] std::vector<std::string> missing_bench_values(const Measurements& measurements, bool with_kvm);

// {"lat_ctx", "primitives", "boot", "exits"}; null is what an L0 cannot tell.
[[nodiscard]] std::string bench_json(const Measurements& measurements, bool with_kvm);

[[nodiscard]] std::string bench_table(const Measurements& measurements, bool with_kvm);

}  // namespace flatback::tools
