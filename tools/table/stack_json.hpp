// What `flatback run --json FILE` writes: l1.cpu_flags, l1.kvm_intel, modes.MODE.…, bare_l1.…, lat_ctx.…,
// boot.…
#pragma once

#include <string>

#include "tools/measure/measurements.hpp"

namespace flatback::tools {

// Numbers are numbers; what was not measured is not there.
[[nodiscard]] std::string stack_json(const Measurements& measurements);

}  // namespace flatback::tools
