#include "guests/bare/l1/watchdog.hpp"

#include <cstdint>

#include "guests/bare/l1/port.hpp"

namespace flatback::guests::watchdog {
namespace {

// The registers of the MC146818 clock.
constexpr std::uint8_t seconds_now = 0;
constexpr std::uint8_t seconds_alarm = 1;
constexpr std::uint8_t minutes_alarm = 3;
constexpr std::uint8_t hours_alarm = 5;
constexpr std::uint8_t register_a = 0x0A;
constexpr std::uint8_t register_b = 0x0B;
constexpr std::uint8_t register_c = 0x0C;
constexpr std::uint8_t updating = 0x80;      // of register A
constexpr std::uint8_t alarm_enable = 0x20;  // of register B
constexpr std::uint8_t binary = 0x04;        // of register B; otherwise decimal digits
constexpr std::uint8_t alarm_came = 0x20;    // of register C, which reading clears
constexpr std::uint8_t any_value = 0xC0;     // of an alarm register

// The clock is ISA interrupt 8, which every PC has on this input of its first I/O APIC.
constexpr std::uint64_t io_apic = 0xFEC00000;
constexpr std::uint32_t redirection = 0x10 + 2 * 8;
constexpr std::uint32_t deliver_nmi = 0x400;
constexpr std::uint32_t masked = 0x10000;
constexpr std::uint64_t local_apic_id = 0xFEE00020;

// Readings until an update is over, more than enough.
constexpr unsigned longest_update = 10'000;

// What a machine without this clock answers, for ever.
constexpr std::uint8_t no_clock = 0xFF;

bool expired_ = false;
bool is_there = false;

std::uint8_t read_clock(std::uint8_t index) {
    out_byte(0x70, index);
    return in_byte(0x71);
}

void write_clock(std::uint8_t index, std::uint8_t value) {
    out_byte(0x70, index);
    out_byte(0x71, value);
}

volatile std::uint32_t& mmio(std::uint64_t address) {
    return *reinterpret_cast<volatile std::uint32_t*>(address);
}

void write_io_apic(std::uint32_t index, std::uint32_t value) {
    mmio(io_apic) = index;
    mmio(io_apic + 0x10) = value;
}

unsigned from_clock(std::uint8_t value, bool is_binary) {
    return is_binary ? value : (value >> 4U) * 10U + (value & 0xFU);
}

std::uint8_t to_clock(unsigned value, bool is_binary) {
    return static_cast<std::uint8_t>(is_binary ? value : (value / 10) << 4 | value % 10);
}

}  // namespace

void start(unsigned seconds) {
    expired_ = false;
    is_there = read_clock(register_a) != no_clock || read_clock(register_b) != no_clock;
    if (!is_there) return;
    stop();
    expired_ = false;
    for (unsigned i = 0; i < longest_update && (read_clock(register_a) & updating) != 0; ++i) {
    }
    const bool is_binary = (read_clock(register_b) & binary) != 0;
    const unsigned then = (from_clock(read_clock(seconds_now), is_binary) + seconds) % 60;
    write_clock(seconds_alarm, to_clock(then, is_binary));
    write_clock(minutes_alarm, any_value);
    write_clock(hours_alarm, any_value);
    write_io_apic(redirection + 1, mmio(local_apic_id) & 0xFF000000);
    write_io_apic(redirection, deliver_nmi);
    write_clock(register_b, read_clock(register_b) | alarm_enable);
}

void stop() {
    if (!is_there) return;
    write_clock(register_b, read_clock(register_b) & static_cast<std::uint8_t>(~alarm_enable));
    write_io_apic(redirection, masked);
    expired();
}

bool expired() {
    if (!is_there) return false;
    if ((read_clock(register_c) & alarm_came) != 0) expired_ = true;
    return expired_;
}

}  // namespace flatback::guests::watchdog
