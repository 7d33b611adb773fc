#include "guests/bare/l1/timer_nmi.hpp"

#include <initializer_list>

#include "guests/bare/l1/port.hpp"

namespace flatback::guests::timer_nmi {
namespace {

constexpr std::uint64_t io_apic = 0xFEC00000;
constexpr std::uint64_t local_apic_id = 0xFEE00020;
constexpr std::uint32_t first_redirection = 0x10;
constexpr std::uint32_t delivery_nmi = 0x400;
constexpr std::uint32_t masked = 0x10000;

constexpr std::uint16_t channel_0 = 0x40;
constexpr std::uint16_t command = 0x43;
// Modes 0 and 2 of channel 0, both bytes of the count.
constexpr std::uint8_t interrupt_on_terminal_count = 0x30;
constexpr std::uint8_t rate_generator = 0x34;

volatile std::uint32_t& at(std::uint64_t address) {
    return *reinterpret_cast<volatile std::uint32_t*>(address);
}

void write_io_apic(std::uint32_t index, std::uint32_t value) {
    at(io_apic) = index;
    at(io_apic + 0x10) = value;
}

// The timer is on input 2, or on 0 where nothing reroutes it.
void route(std::uint32_t how) {
    for (const std::uint32_t input : {0U, 2U}) {
        write_io_apic(first_redirection + 2 * input + 1, at(local_apic_id));
        write_io_apic(first_redirection + 2 * input, how);
    }
}

void count(std::uint16_t periods) {
    out_byte(channel_0, static_cast<std::uint8_t>(periods));
    out_byte(channel_0, static_cast<std::uint8_t>(periods >> 8));
}

}  // namespace

void send_in(std::uint16_t periods) {
    out_byte(command, interrupt_on_terminal_count);
    route(delivery_nmi);
    count(periods);
}

void send_interrupt_in(std::uint16_t periods, std::uint8_t vector) {
    out_byte(command, interrupt_on_terminal_count);
    route(vector);
    count(periods);
}

void send_every(std::uint16_t periods) {
    out_byte(command, rate_generator);
    count(periods);
    route(delivery_nmi);
}

void stop() {
    route(masked);
}

}  // namespace flatback::guests::timer_nmi
