// The part of a program's output that a user wants to see when it fails.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace flatback::tools {

// The last lines, 80 or so many.
[[nodiscard]] std::string last_lines(std::string_view text, std::size_t most = 80);

// The lines that tell of an error or a warning in a source, each after a newline, 80 at most.
[[nodiscard]] std::string findings(std::string_view output);

}  // namespace flatback::tools
