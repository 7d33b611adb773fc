// clang-tidy over the repository.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "tools/check/test_report.hpp"
#include "tools/ground/error.hpp"

namespace flatback::tools {

// The compilation database with each source once (many are compiled twice: freestanding and hosted, or with
// the sanitizers) and alone (some are compiled several at once), without tests and fuzzers, without 32-bit
// sources, without what lies outside `sources`, and without options that are GCC's only. Error: input_file
// where it is not a compilation database, or where a source of several at once cannot be read.
[[nodiscard]] Result<std::string> reduced_database(std::string_view database,
                                                   const std::filesystem::path& sources);

enum class TidyScope : std::uint8_t {
    everything,
    what_changed  // since it was found clean; where nothing is known of that, by the last commit
};

// One test; none where nothing changed. What it finds clean is remembered in the build directory. Error:
// interrupted, or a program that is missing.
[[nodiscard]] Result<> check_tidy(TestReport& report, TidyScope scope);

}  // namespace flatback::tools
