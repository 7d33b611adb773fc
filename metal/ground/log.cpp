#include "metal/ground/log.hpp"

#include <array>

#include "metal/ground/serial.hpp"

namespace flatback::metal::log {
namespace {

constinit LogLevel current_level = LogLevel::info;

void write_number(std::uint64_t value, unsigned base, unsigned least_digits) {
    std::array<char, 20> text;  // 2^64 has 20 decimal digits
    std::size_t first = text.size();
    do {
        text[--first] = "0123456789abcdef"[value % base];
        value /= base;
    } while (first > 0 && (value != 0 || text.size() - first < least_digits));
    serial::write({text.data() + first, text.size() - first});
}

}  // namespace

void set_level(LogLevel level) {
    current_level = level;
}
LogLevel level() {
    return current_level;
}

void write(std::string_view text) {
    serial::write(text);
}
void write(Hex value) {
    if (value.prefix) serial::write("0x");
    write_number(value.value, 16, value.digits);
}
void write_unsigned(std::uint64_t value) {
    write_number(value, 10, 1);
}
void write_signed(std::int64_t value) {
    if (value < 0) serial::write("-");
    const auto magnitude = static_cast<std::uint64_t>(value);
    write_number(value < 0 ? 0 - magnitude : magnitude, 10, 1);
}

}  // namespace flatback::metal::log
