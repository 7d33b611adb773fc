// Where results go: a file, or standard output under the name "-".
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <span>
#include <string_view>

#include "tools/ground/error.hpp"
#include "tools/ground/files.hpp"

namespace flatback::tools {

[[nodiscard]] inline bool is_standard_output(const std::filesystem::path& path) {
    return path == "-";
}

// Where everything else is printed, given the files of the results: where one of them is standard output,
// nothing else may go there.
[[nodiscard]] std::FILE* text_stream(const auto&... files) {
    const bool taken = (... || (files && is_standard_output(*files)));
    return taken ? stderr : stdout;
}

// A line for who runs the command, beside what it was asked for.
inline void tell(std::string_view text) {
    fmt::print(stderr, "flatback: {}\n", text);
}

// Writes a whole file, or to standard output. Error: output_file.
[[nodiscard]] inline Result<> write_output(const std::filesystem::path& path, std::string_view text) {
    if (!is_standard_output(path))
        return replace_file(path, std::as_bytes(std::span{text.data(), text.size()}));
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
        return fail(ExitStatus::output_file, "cannot write to standard output");
    return {};
}

// Whether `path` can be written, before the minutes that its contents take. Error: output_file.
[[nodiscard]] inline Result<> check_output(const std::filesystem::path& path) {
    return is_standard_output(path) ? Result<>{} : check_writable(path);
}

}  // namespace flatback::tools
