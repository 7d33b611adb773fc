// The C++ sources of the repository.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace flatback::tools {

// Every .cpp and .hpp outside of build directories and hidden ones, sorted.
[[nodiscard]] std::vector<std::filesystem::path> source_files();

// The text as a regular expression that matches itself.
[[nodiscard]] std::string literally(std::string_view text);

}  // namespace flatback::tools
