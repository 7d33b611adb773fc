// What the cases did, one line a step, on port E9H: the debug port takes a character in one instruction,
// where COM1 would take some 8,700 ticks.
#pragma once

#include <string_view>

#include "guests/bare/l1/report.hpp"

namespace flatback::guests {

// The place that every line of the log begins with.
struct LogPlace {
    std::uint64_t case_number = 0;
    std::uint64_t step = 0;
    std::uint64_t variant = 0;  // which mask of steps, where one case runs with several
};
extern LogPlace log_place;

// Prints "CASE/VARIANT.STEP TEXT".
void log_line(const Line& line);

// " NAME=NUMBER", hexadecimal.
inline Line& put(Line& line, std::string_view name, std::uint64_t number) {
    constexpr std::string_view digits = "0123456789abcdef";
    char text[16];
    std::size_t first = sizeof text;
    do {
        text[--first] = digits[number & 15];
        number >>= 4;
    } while (number != 0);
    return line << " " << name << "=" << std::string_view{text + first, sizeof text - first};
}

}  // namespace flatback::guests
