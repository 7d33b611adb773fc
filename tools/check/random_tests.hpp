// `flatback test --random`: L1s made from seeds, each run under L0 and without it, and compared
// (docs/random.md).
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "tools/check/test_report.hpp"
#include "tools/ground/error.hpp"

namespace flatback::tools {

struct RandomOptions {
    std::chrono::seconds time{0};
    std::uint64_t seed = 1;
    std::uint64_t first = 0;  // the first case
    std::string l0_command_line = {};
    std::optional<std::filesystem::path> l0 = {};    // another image than the one that was built
    std::optional<std::filesystem::path> logs = {};  // a folder for the logs of all boots
    std::string without = {};                        // a kind of steps that do nothing
    std::uint64_t most_cases = ~std::uint64_t{0};
};

// Boots pairs until the time is up; each case that differs is shortened and is a failed test, each pair of
// boots without one a passed test. Error: what kept a boot from starting, or interrupted.
[[nodiscard]] Result<> run_random_tests(TestReport& report, const RandomOptions& options);

}  // namespace flatback::tools
