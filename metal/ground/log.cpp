#include "metal/ground/log.hpp"

#include <array>
#include <atomic>

#include "metal/ground/instructions.hpp"
#include "metal/ground/serial.hpp"
#include "metal/ground/this_processor.hpp"

namespace flatback::metal::log {
namespace {

constinit LogLevel current_level = LogLevel::info;
constinit Screen screen{};
constinit Console console = Console::both;
constinit bool screen_is_l1s = false;

void write_number(std::uint64_t value, unsigned base, unsigned least_digits) {
    std::array<char, 20> text;  // 2^64 has 20 decimal digits
    std::size_t first = text.size();
    do {
        text[--first] = "0123456789abcdef"[value % base];
        value /= base;
    } while (first > 0 && (value != 0 || text.size() - first < least_digits));
    write({text.data() + first, text.size() - first});
}

// The number of the processor that writes, and one: 0 is nobody.
constinit std::atomic<std::uint32_t> writer{0};
constinit std::uint32_t depth = 0;  // the writer's
constinit std::atomic<bool> broken_in{false};

}  // namespace

Whole::Whole() {
    const std::uint32_t own = this_processor_number() + 1;
    if (writer.load() == own) {
        ++depth;
        return;
    }
    if (broken_in.load()) halt_forever();
    for (std::uint32_t nobody = 0; !writer.compare_exchange_weak(nobody, own); nobody = 0) {
        if (broken_in.load()) halt_forever();
        asm volatile("pause");
    }
    depth = 1;
}
Whole::~Whole() {
    if (--depth == 0) writer.store(0);
}
void break_in() {
    if (broken_in.exchange(true)) {
        if (writer.load() != this_processor_number() + 1) halt_forever();
    }
    writer.store(this_processor_number() + 1);
    depth = 1;
}

void write_prefix() {
    const std::uint32_t number = this_processor_number();
    write("[L0");
    if (number != 0) {
        write(".");
        write_unsigned(number);
    }
    write("] ");
}

void set_screen(Screen found) {
    screen = found;
}
void set_console(Console chosen) {
    console = chosen;
}
void leave_screen() {
    screen_is_l1s = true;
}
void end_quiet(bool takes_screen) {
    console = Console::both;
    if (!screen_is_l1s || !takes_screen) return;
    screen_is_l1s = false;
    if (screen.clear != nullptr) screen.clear();
}

void set_level(LogLevel level) {
    current_level = level;
}
LogLevel level() {
    return current_level;
}

void write(std::string_view text) {
    if (console == Console::both || console == Console::serial) serial::write(text);
    if (screen.write != nullptr && !screen_is_l1s && (console == Console::both || console == Console::screen))
        screen.write(text);
}
void write(Hex value) {
    if (value.prefix) write(std::string_view{"0x"});
    write_number(value.value, 16, value.digits);
}
void write_unsigned(std::uint64_t value) {
    write_number(value, 10, 1);
}
void write_signed(std::int64_t value) {
    if (value < 0) write(std::string_view{"-"});
    const auto magnitude = static_cast<std::uint64_t>(value);
    write_number(value < 0 ? 0 - magnitude : magnitude, 10, 1);
}

}  // namespace flatback::metal::log
