#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace flatback::guests {

/// numerator / denominator with up to three decimals, rounded, without trailing zeros ("4.7", "0.002",
/// "2"). "0" where the denominator is 0 is never printed: callers leave such a record out.
[[nodiscard]] std::string format_ratio(std::uint64_t numerator, std::uint64_t denominator);

/// One record of the serial contract, without its newline: FLATBACK KIND REST. Line breaks inside
/// become spaces, so that a record is always one line.
[[nodiscard]] std::string format_record(std::string_view kind, std::string_view rest);

/// Writes one line to standard output, as print_record() does.
void print_line(std::string_view line);

/// Writes one record to standard output in a single write() and waits until the terminal has sent it:
/// the UART's interrupts must not fall into the next measurement.
void print_record(std::string_view kind, std::string_view rest);

void print_value(std::string_view key, std::uint64_t value);
void print_text(std::string_view key, std::string_view text);

}  // namespace flatback::guests
