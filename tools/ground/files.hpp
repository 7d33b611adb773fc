// Reading and writing whole files, with one clear line for what goes wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/ground/error.hpp"

namespace flatback::tools {

using Bytes = std::vector<std::byte>;

// The same bytes as text; valid as long as they are.
[[nodiscard]] inline std::string_view text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Error: input_file where the file is missing, unreadable, a directory or empty.
[[nodiscard]] Result<Bytes> read_file(const std::filesystem::path& path);
// The same; and where it is larger, before any of it is read.
[[nodiscard]] Result<Bytes> read_file_of_at_most(const std::filesystem::path& path, std::uintmax_t megabytes);

// Error: output_file; what was written of an incomplete file is removed.
[[nodiscard]] Result<> write_file(const std::filesystem::path& path, std::span<const std::byte> bytes);
[[nodiscard]] Result<> write_file(const std::filesystem::path& path, std::string_view text);

// Writes beside the path first and renames, so that no one ever sees half a file. What is no regular file is
// written to as it is.
[[nodiscard]] Result<> replace_file(const std::filesystem::path& path, std::span<const std::byte> bytes);

[[nodiscard]] Result<> make_directory(const std::filesystem::path& path);

// Error: output_file where the path cannot be written. Leaves an existing file as it is; a new one is not
// kept.
[[nodiscard]] Result<> check_writable(const std::filesystem::path& path);

}  // namespace flatback::tools
