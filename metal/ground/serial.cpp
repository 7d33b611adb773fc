#include "metal/ground/serial.hpp"

#include <cstdint>

#include "metal/ground/instructions.hpp"

namespace flatback::metal::serial {
namespace {

// The 16550's registers, from its data sheet.
constexpr std::uint16_t base = 0x3F8;
constexpr std::uint16_t transmit = base + 0;
constexpr std::uint16_t divisor_low = base + 0;  // with line_control's divisor latch bit set
constexpr std::uint16_t divisor_high = base + 1;
constexpr std::uint16_t interrupt_enable = base + 1;
constexpr std::uint16_t fifo_control = base + 2;
constexpr std::uint16_t line_control = base + 3;
constexpr std::uint16_t modem_control = base + 4;
constexpr std::uint16_t line_status = base + 5;

constexpr std::uint8_t divisor_latch = 0x80;
constexpr std::uint8_t eight_bits_no_parity = 0x03;
constexpr std::uint8_t enable_and_clear_fifos = 0x07;
constexpr std::uint8_t data_terminal_ready_request_to_send = 0x03;
constexpr std::uint8_t holding_register_empty = 0x20;
constexpr std::uint8_t transmitter_idle = 0x40;

// A character takes 87 us at this speed and one read of the port about 1 us: far more than enough.
constexpr unsigned longest_wait = 20'000;

void wait_for(std::uint8_t status) {
    for (unsigned tries = 0; tries < longest_wait; ++tries) {
        if ((read_port_8(line_status) & status) != 0) return;
    }
}

void write_byte(std::uint8_t byte) {
    wait_for(holding_register_empty);
    write_port_8(transmit, byte);
}

}  // namespace

void initialize() {
    write_port_8(interrupt_enable, 0);
    write_port_8(line_control, divisor_latch);
    write_port_8(divisor_low, 1);  // 115200
    write_port_8(divisor_high, 0);
    write_port_8(line_control, eight_bits_no_parity);
    write_port_8(fifo_control, enable_and_clear_fifos);
    write_port_8(modem_control, data_terminal_ready_request_to_send);
}

void write(std::string_view text) {
    for (const char character : text) {
        if (character == '\n') write_byte('\r');
        write_byte(static_cast<std::uint8_t>(character));
    }
}

void drain() {
    wait_for(transmitter_idle);
}

}  // namespace flatback::metal::serial
