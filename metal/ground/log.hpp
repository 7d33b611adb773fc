// The log, on COM1 and on the screen: `log::info("text ", value, ", ", log::hex(address))`. Lines of L0's own
// start with "[L0] ".
#pragma once

#include <concepts>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "metal/ground/options.hpp"
#include "x86/address.hpp"

namespace flatback::metal::log {

struct Hex {
    std::uint64_t value;
    unsigned digits;  // at least so many, zero-padded
    bool prefix = true;
};
template <std::unsigned_integral T>
[[nodiscard]] constexpr Hex hex(T value, unsigned digits = 1) {
    return {value, digits};
}
template <typename Space>
[[nodiscard]] constexpr Hex hex(x86::Address<Space> address, unsigned digits = 1) {
    return {address.value(), digits};
}

// Without 0x.
[[nodiscard]] constexpr Hex digits(std::uint64_t value, unsigned least) {
    return {value, least, false};
}

// A screen that the log goes to as well: metal/console/screen_log.hpp.
struct Screen {
    void (*write)(std::string_view text) = nullptr;
    void (*clear)() = nullptr;
};
void set_screen(Screen screen);
// Which of the two it goes to. What ends L0 goes to both, whatever is said here.
void set_console(Console console);
// The screen is L1's from now on.
void leave_screen();
// L0 ends. Both, and a screen that was L1's is cleared where `takes_screen`.
void end_quiet(bool takes_screen);

void set_level(LogLevel level);
[[nodiscard]] LogLevel level();

void write(std::string_view text);
void write(Hex value);
void write_unsigned(std::uint64_t value);
void write_signed(std::int64_t value);

// Integers print in decimal, Hex as 0x…, addresses as Hex, bool as true/false, enumerations as their number.
template <typename T>
void write_value(const T& value) {
    if constexpr (std::is_same_v<T, bool>) {
        write(value ? std::string_view{"true"} : std::string_view{"false"});
    } else if constexpr (std::is_same_v<T, char>) {
        write(std::string_view{&value, 1});
    } else if constexpr (std::is_same_v<T, Hex>) {
        write(value);
    } else if constexpr (std::is_enum_v<T>) {
        write_unsigned(static_cast<std::uint64_t>(value));
    } else if constexpr (std::signed_integral<T>) {
        write_signed(value);
    } else if constexpr (std::unsigned_integral<T>) {
        write_unsigned(value);
    } else if constexpr (requires { hex(value); }) {
        write(hex(value));
    } else {
        write(std::string_view{value});
    }
}

// As long as there is one, no other processor's text comes in between. They may be nested. A panic waits for
// no one: see break_in().
class Whole final {
public:
    Whole();
    ~Whole();
    Whole(const Whole&) = delete;
    Whole& operator=(const Whole&) = delete;
};
// From now on this processor alone writes, and the others stop where they would.
void break_in();

// The values one after another and the end of the line, with nothing in front.
template <typename... Values>
void line(const Values&... values) {
    const Whole whole;
    (write_value(values), ...);
    write("\n");
}
// "[L0] ", and on another processor than the first its number: "[L0.1] ".
void write_prefix();
template <typename... Values>
void info(const Values&... values) {
    if (level() < LogLevel::info) return;
    const Whole whole;
    write_prefix();
    line(values...);
}
template <typename... Values>
void debug(const Values&... values) {
    if (level() < LogLevel::debug) return;
    const Whole whole;
    write_prefix();
    line(values...);
}

}  // namespace flatback::metal::log
