// What `flatback bench --json FILE` writes: lat_ctx, primitives, boot, exits (docs/bench.md).
#pragma once

#include <string>

#include "tools/bench_results.hpp"

namespace flatback::tools {

// Numbers are numbers; null is what this peer cannot tell.
[[nodiscard]] std::string bench_json(const BenchResults& results);

}  // namespace flatback::tools
