#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string_view>

namespace flatback::guests {

/// A 16550A serial port whose transmitter is always ready, as a Linux driver probes and uses it.
class Uart final {
public:
    static constexpr std::uint16_t port_count = 8;

    /// `transmit` gets each byte that the guest sends.
    explicit Uart(std::function<void(char)> transmit) : transmit_(std::move(transmit)) {}

    /// The guest reads or writes the register at `offset`, below port_count.
    [[nodiscard]] std::uint8_t read(std::uint16_t offset);
    void write(std::uint16_t offset, std::uint8_t value);

    /// Bytes arrive on the line. The receiver's buffer has no end.
    void receive(std::string_view bytes);

    /// Whether the port asserts its interrupt.
    [[nodiscard]] bool interrupt() const;

private:
    [[nodiscard]] bool divisor_latch_open() const;
    [[nodiscard]] bool receiver_interrupt() const;
    [[nodiscard]] bool transmitter_interrupt() const;
    [[nodiscard]] std::uint8_t modem_status() const;

    std::function<void(char)> transmit_;
    std::deque<std::uint8_t> received_;
    std::uint8_t interrupt_enable_ = 0;
    std::uint8_t line_control_ = 0;
    std::uint8_t modem_control_ = 0;
    std::uint8_t scratch_ = 0;
    std::uint16_t divisor_ = 1;
    bool fifos_enabled_ = false;
    /// The transmitter became empty since the guest was last told.
    bool transmitter_news_ = false;
};

}  // namespace flatback::guests
