// `flatback image`: one file that boots real machines.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tools/ground/error.hpp"

namespace flatback::tools {

struct ImageOptions {
    std::filesystem::path output;
    std::optional<std::filesystem::path> guest;  // an entry for it, which is then the first
    std::vector<std::string> modules;
    std::string guest_command_line;
    std::string l0_command_line;  // of every entry
    bool with_linux = false;
    std::string first;           // the entry that is booted where nobody chooses; empty: the first
    unsigned menu_seconds = 10;  // 0: no menu
};

// Writes it, and says on standard error how large it is. Error: what kept it from being made.
[[nodiscard]] Result<ExitStatus> image_command(const ImageOptions& options);

}  // namespace flatback::tools
