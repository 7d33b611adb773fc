// The table that `flatback run` ends with.
#pragma once

#include <string>

#include "tools/measure/measurements.hpp"

namespace flatback::tools {

[[nodiscard]] std::string render_table(const Measurements& measurements);

}  // namespace flatback::tools
