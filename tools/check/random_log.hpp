// The log of the random L1 (guests/random/README.md), and where two of them differ.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace flatback::tools {

// "CASE/VARIANT.STEP TEXT"
struct RandomLine {
    std::uint64_t case_number = 0;
    std::uint64_t variant = 0;
    std::uint64_t step = 0;
    std::string text;

    friend bool operator==(const RandomLine&, const RandomLine&) = default;
};

// The lines of a log; what is none, as a firmware's or L0's own text is, is left out. A last line without its
// newline is left out too: the machine stopped in it.
[[nodiscard]] std::vector<RandomLine> parse_random_log(std::string_view console);

struct RandomDifference {
    std::uint64_t case_number = 0;
    std::uint64_t variant = 0;
    std::uint64_t step = 0;
    std::string under_l0;  // the line there; empty where the log of this case ends before it
    std::string directly;
};

// The first difference of each case and variant, in their order.
[[nodiscard]] std::vector<RandomDifference> differences(const std::vector<RandomLine>& under_l0,
                                                        const std::vector<RandomLine>& directly);

// What differs in two lines: the first word of the line, and the NAME of the first NAME=VALUE that is not the
// same. Two differences with the same mark are taken for the same one.
[[nodiscard]] std::string mark_of(const RandomDifference& difference);

}  // namespace flatback::tools
