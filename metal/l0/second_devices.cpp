#include "metal/l0/second_devices.hpp"

namespace flatback::metal {

namespace {
// Of a 16550.
constexpr unsigned line_control = 3;
constexpr unsigned line_status = 5;
constexpr std::uint8_t divisor_latch = 0x80;      // of line control: the first register is another
constexpr std::uint8_t transmitter_empty = 0x60;  // of line status
}  // namespace

void LineQueue::put(char character) {
    if (used_ == text_.size()) {
        ++lost_;
        return;
    }
    const bool ends = character == '\n';
    // The last place is for the end of a line.
    if (used_ == text_.size() - 1 && !ends) {
        ++lost_;
        return;
    }
    text_[used_++] = character;
    if (ends) whole_ = true;
}

std::uint32_t SecondDevices::read(std::uint16_t port, unsigned size) const {
    std::uint32_t value = 0;
    for (unsigned byte = 0; byte < size; ++byte) {
        const std::uint32_t at = std::uint32_t{port} + byte;
        std::uint32_t one = 0xff;
        if (at - serial < serial_registers_.size()) {
            one = at - serial == line_status ? transmitter_empty : serial_registers_[at - serial];
        } else if (at == clock_data) {
            one = 0;
        }
        value |= one << (8 * byte);
    }
    return value;
}

bool SecondDevices::write(std::uint16_t port, unsigned size, std::uint32_t value) {
    bool goes_on = true;
    for (unsigned byte = 0; byte < size; ++byte) {
        const std::uint32_t at = std::uint32_t{port} + byte;
        const auto one = static_cast<std::uint8_t>(value >> (8 * byte));
        if (at == EndPort::port && end_.take(one)) goes_on = false;
        if (at - serial >= serial_registers_.size()) continue;
        if (at == serial && (serial_registers_[line_control] & divisor_latch) == 0) {
            const auto character = static_cast<char>(one);
            if (character == '\r') continue;
            // What is no text cannot be taken for anything else in the log.
            lines_.put(character == '\n' || character == '\t' || (one >= 0x20 && one < 0x7f) ? character
                                                                                             : '?');
        } else if (at != serial) {
            serial_registers_[at - serial] = one;
        }
    }
    return goes_on;
}

}  // namespace flatback::metal
