// Which lines of the engine its hosted tests run.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/ground/error.hpp"

namespace flatback::tools {

struct FileCoverage {
    std::string file;  // relative to the sources
    unsigned lines = 0;
    unsigned covered = 0;

    friend bool operator==(const FileCoverage&, const FileCoverage&) = default;
};

// The files of gcovr's summary in JSON. Error: incomplete where it is none.
[[nodiscard]] Result<std::vector<FileCoverage>> parse_coverage(std::string_view json);

// The lines of the files below a folder together.
[[nodiscard]] FileCoverage folder_coverage(const std::vector<FileCoverage>& files, std::string_view folder);
[[nodiscard]] double percent(const FileCoverage& coverage);

// Builds the hosted tests of tag/, nested/ and host/ so that they count, in a build directory of their own,
// runs them, and prints the lines they ran by file and by folder. `incomplete` where a test fails or a folder
// is under 90 %. Error: a build that fails, a program that is missing, a file that cannot be written.
[[nodiscard]] Result<ExitStatus> coverage_command(const std::optional<std::filesystem::path>& json_file);

}  // namespace flatback::tools
