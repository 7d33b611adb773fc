// Numbers as tables print them.
#pragma once

#include <string>

namespace flatback::tools {

// 13461 -> "13,461"; 4.7 -> "4.7"; 2 -> "2".
[[nodiscard]] std::string format_number(double value);

}  // namespace flatback::tools
