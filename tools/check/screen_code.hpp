// The two-dimensional code in a picture.
#pragma once

#include <filesystem>
#include <string>

#include "tools/ground/error.hpp"

namespace flatback::tools {

// The text of the one code that the picture shows, read by zbarimg. Error: missing_program; incomplete where
// there is none, or more than one.
[[nodiscard]] Result<std::string> read_code(const std::filesystem::path& picture);

}  // namespace flatback::tools
