// The command line: see README.md.
#pragma once

#include <cstdint>
#include <string_view>

namespace flatback::guests {

constexpr unsigned most_steps = 32;
constexpr unsigned most_variants = 40;

struct Options {
    bool good = true;
    std::uint64_t seed = 1;
    std::uint64_t first = 0;                          // the first case
    std::uint64_t cases = 100;                        // how many
    std::uint64_t steps = 12;                         // of each
    bool everything = false;                          // log_everything, of every case
    std::uint64_t everything_of = ~std::uint64_t{0};  // log_everything, of this case
    std::uint64_t masks[most_variants] = {
        0xFFFFFFFF};  // the steps of each case that are made, case by case with each
    unsigned variants = 1;
    std::string_view without;  // step_left_out
    std::string_view promise;  // capability values to use in place of this processor's: see promise.hpp
};

Options parse_options(std::string_view command_line);

// The hexadecimal number at the beginning of the text, which is advanced past it and past one character
// behind it.
std::uint64_t take_hexadecimal(std::string_view& text);

}  // namespace flatback::guests
