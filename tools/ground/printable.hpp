// What a guest printed, as a terminal may show it.
#pragma once

#include <string>
#include <string_view>

namespace flatback::tools {

// Control characters in caret notation (^[ for ESC) but for the tabulator, which stays; C1 controls and what
// is not UTF-8 as \xNN: nothing is left that moves a terminal's cursor or changes its state.
[[nodiscard]] std::string printable(std::string_view text);

// The same of many lines: their ends stay, without carriage returns.
[[nodiscard]] std::string printable_lines(std::string_view text);

}  // namespace flatback::tools
