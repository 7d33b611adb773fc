#pragma once

#include <filesystem>
#include <string>

namespace flatback::machine {

[[nodiscard]] std::string file_text(const std::filesystem::path& file);
/// Throws std::runtime_error.
void write_text(const std::filesystem::path& file, const std::string& text);
/// For a shell.
[[nodiscard]] std::string quoted(const std::filesystem::path& path);
/// The exit status; 128: it died.
int run_shell(const std::string& command);

}  // namespace flatback::machine
