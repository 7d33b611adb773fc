// The table that `flatback run` ends with.
#pragma once

#include <string>

#include "tools/measurements.hpp"

namespace flatback::tools {

[[nodiscard]] std::string render_table(const Measurements& measurements);

// 13461 -> "13,461"; 4.7 -> "4.7"; 2 -> "2".
[[nodiscard]] std::string format_number(double value);

}  // namespace flatback::tools
