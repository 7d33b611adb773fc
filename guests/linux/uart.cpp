#include "guests/linux/uart.hpp"

namespace flatback::guests {
namespace {

// Registers and bits of the 16550 (National Semiconductor PC16550D data sheet, table II).
enum Register : std::uint16_t {
    data = 0,              // and the divisor's low byte
    interrupt_enable = 1,  // and its high byte
    interrupt_identification = 2,
    fifo_control = 2,
    line_control = 3,
    modem_control = 4,
    line_status = 5,
    modem_status_register = 6,
    scratch = 7,
};

constexpr std::uint8_t enable_receiver = 0x01;
constexpr std::uint8_t enable_transmitter = 0x02;
constexpr std::uint8_t enable_mask = 0x0F;

constexpr std::uint8_t no_interrupt = 0x01;
constexpr std::uint8_t source_transmitter = 0x02;
constexpr std::uint8_t source_receiver = 0x04;
constexpr std::uint8_t fifos_present = 0xC0;

constexpr std::uint8_t fifo_enable = 0x01;
constexpr std::uint8_t fifo_clear_receiver = 0x02;

constexpr std::uint8_t divisor_latch = 0x80;

constexpr std::uint8_t loopback = 0x10;
constexpr std::uint8_t request_to_send = 0x02;
constexpr std::uint8_t data_terminal_ready = 0x01;
constexpr std::uint8_t output_1 = 0x04;
constexpr std::uint8_t output_2 = 0x08;
constexpr std::uint8_t modem_mask = 0x1F;

constexpr std::uint8_t data_ready = 0x01;
constexpr std::uint8_t transmitter_empty = 0x60;

constexpr std::uint8_t clear_to_send = 0x10;
constexpr std::uint8_t data_set_ready = 0x20;
constexpr std::uint8_t ring_indicator = 0x40;
constexpr std::uint8_t carrier_detect = 0x80;

}  // namespace

bool Uart::divisor_latch_open() const {
    return (line_control_ & divisor_latch) != 0;
}

bool Uart::receiver_interrupt() const {
    return (interrupt_enable_ & enable_receiver) != 0 && !received_.empty();
}

bool Uart::transmitter_interrupt() const {
    return (interrupt_enable_ & enable_transmitter) != 0 && transmitter_news_;
}

bool Uart::interrupt() const {
    return receiver_interrupt() || transmitter_interrupt();
}

std::uint8_t Uart::modem_status() const {
    if ((modem_control_ & loopback) == 0) {
        return clear_to_send | data_set_ready | carrier_detect;  // somebody is there
    }
    unsigned status = 0;
    if ((modem_control_ & request_to_send) != 0) {
        status |= clear_to_send;
    }
    if ((modem_control_ & data_terminal_ready) != 0) {
        status |= data_set_ready;
    }
    if ((modem_control_ & output_1) != 0) {
        status |= ring_indicator;
    }
    if ((modem_control_ & output_2) != 0) {
        status |= carrier_detect;
    }
    return static_cast<std::uint8_t>(status);
}

std::uint8_t Uart::read(std::uint16_t offset) {
    switch (offset) {
        case data: {
            if (divisor_latch_open()) {
                return static_cast<std::uint8_t>(divisor_ & 0xFF);
            }
            if (received_.empty()) {
                return 0;
            }
            const std::uint8_t next = received_.front();
            received_.pop_front();
            return next;
        }
        case interrupt_enable:
            return divisor_latch_open() ? static_cast<std::uint8_t>(divisor_ >> 8) : interrupt_enable_;
        case interrupt_identification: {
            std::uint8_t source = no_interrupt;
            if (receiver_interrupt()) {
                source = source_receiver;
            } else if (transmitter_interrupt()) {
                source = source_transmitter;
                transmitter_news_ = false;  // reading it acknowledges it
            }
            return static_cast<std::uint8_t>(source | (fifos_enabled_ ? fifos_present : 0));
        }
        case line_control:
            return line_control_;
        case modem_control:
            return modem_control_;
        case line_status:
            return static_cast<std::uint8_t>(transmitter_empty | (received_.empty() ? 0 : data_ready));
        case modem_status_register:
            return modem_status();
        case scratch:
            return scratch_;
        default:
            return 0xFF;
    }
}

void Uart::write(std::uint16_t offset, std::uint8_t value) {
    switch (offset) {
        case data:
            if (divisor_latch_open()) {
                divisor_ = static_cast<std::uint16_t>((divisor_ & 0xFF00) | value);
                return;
            }
            // In loopback the line sees nothing. The byte would come back; no driver that we serve looks for
            // it.
            if ((modem_control_ & loopback) == 0) {
                transmit_(static_cast<char>(value));
            }
            transmitter_news_ = true;
            return;
        case interrupt_enable:
            if (divisor_latch_open()) {
                divisor_ = static_cast<std::uint16_t>((divisor_ & 0xFF) | value << 8);
                return;
            }
            // Enabled while the transmitter is empty, the interrupt comes at once.
            if ((value & enable_transmitter) != 0 && (interrupt_enable_ & enable_transmitter) == 0) {
                transmitter_news_ = true;
            }
            interrupt_enable_ = value & enable_mask;
            return;
        case fifo_control:
            fifos_enabled_ = (value & fifo_enable) != 0;
            if ((value & fifo_clear_receiver) != 0) {
                received_.clear();
            }
            return;
        case line_control:
            line_control_ = value;
            return;
        case modem_control:
            modem_control_ = value & modem_mask;
            return;
        case scratch:
            scratch_ = value;
            return;
        default:
            return;  // the status registers cannot be written
    }
}

void Uart::receive(std::string_view bytes) {
    for (const char byte : bytes) {
        received_.push_back(static_cast<std::uint8_t>(byte));
    }
}

}  // namespace flatback::guests
