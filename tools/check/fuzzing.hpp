// The fuzz targets, run for a while.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "tools/check/test_report.hpp"
#include "tools/ground/error.hpp"

namespace flatback::tools {

// One test for each target of fuzz/: a minute together, or fewer runs than a minute allows. Every run starts
// from the seed corpus and from the same random seed. Prints how many inputs ran in which time. A target that
// stops on an input fails; the input is kept, and named with what the target said.
// Error: interrupted.
[[nodiscard]] Result<> run_fuzz_targets(TestReport& report);

struct FuzzResult {
    std::uint64_t runs = 0;
    std::chrono::seconds time{0};

    friend bool operator==(const FuzzResult&, const FuzzResult&) = default;
};

// What libFuzzer says at its end ("Done 210 runs in 41 second(s)"); nothing where it does not.
[[nodiscard]] std::optional<FuzzResult> parse_fuzz_result(std::string_view output);

}  // namespace flatback::tools
