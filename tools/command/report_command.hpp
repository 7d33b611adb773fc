// `flatback report`: one HTML page from the JSON of the runs.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tools/ground/error.hpp"

namespace flatback::tools {

struct ReportOptions {
    std::optional<std::filesystem::path> bench;      // of flatback bench
    std::optional<std::filesystem::path> trace;      // of flatback trace
    std::optional<std::filesystem::path> machine;    // of flatback machine lat_ctx
    std::optional<std::filesystem::path> price;      // of flatback machine price; empty: made from `bench`
    std::optional<std::filesystem::path> self_test;  // lines of self-tests, typed or scanned
    std::optional<std::filesystem::path> watch;      // of flatback watch
    std::vector<std::string> conform;                // of flatback conform, a run each
    std::string processor = "skylake-x";             // on which it is priced then
    std::filesystem::path output;
};

// Error: input_file where a file is not what it should be; output_file; nothing is written then.
[[nodiscard]] Result<ExitStatus> report_command(const ReportOptions& options);

}  // namespace flatback::tools
