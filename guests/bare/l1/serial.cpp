#include "guests/bare/l1/serial.hpp"

#include <cstdint>

#include "guests/bare/l1/port.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint16_t com1 = 0x3F8;
constexpr std::uint16_t line_status = com1 + 5;
constexpr std::uint8_t transmitter_empty = 0x20;
constexpr std::uint8_t all_sent = 0x40;
constexpr unsigned fifo_size = 16;

constexpr std::uint16_t debug_port = 0xE9;

unsigned fifo_room = 0;
bool on_debug_port = false;

}  // namespace

void start_serial() {
    drain_serial();  // whoever ran before may have left characters in the FIFO, which is emptied here
    out_byte(com1 + 1, 0);
    out_byte(com1 + 3, 0x80);  // divisor latch
    out_byte(com1 + 0, 1);
    out_byte(com1 + 1, 0);
    out_byte(com1 + 3, 3);  // eight bits, no parity, one stop bit
    out_byte(com1 + 2, 7);  // FIFO on, emptied
    out_byte(com1 + 4, 3);
}

void use_debug_port() {
    on_debug_port = true;
}

void write_serial(char character) {
    if (on_debug_port) {
        out_byte(debug_port, static_cast<std::uint8_t>(character));
        return;
    }
    if (fifo_room == 0) {
        while ((in_byte(line_status) & transmitter_empty) == 0) {
        }
        fifo_room = fifo_size;
    }
    --fifo_room;
    out_byte(com1, static_cast<std::uint8_t>(character));
}

void forget_fifo_room() {
    fifo_room = 0;
}

void drain_serial() {
    if (on_debug_port) return;
    while ((in_byte(line_status) & all_sent) == 0) {
    }
}

}  // namespace flatback::guests
