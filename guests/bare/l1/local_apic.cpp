#include "guests/bare/l1/local_apic.hpp"

#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/port.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t base = 0xFEE00000;

volatile std::uint32_t& apic_register(std::uint32_t offset) {
    return *reinterpret_cast<volatile std::uint32_t*>(base + offset);
}

constexpr std::uint32_t id = 0x20;
constexpr std::uint32_t task_priority = 0x80;
constexpr std::uint32_t eoi = 0xB0;
constexpr std::uint32_t spurious = 0xF0;
constexpr std::uint32_t in_service = 0x100;
constexpr std::uint32_t requests = 0x200;
constexpr std::uint32_t command_low = 0x300;
constexpr std::uint32_t command_high = 0x310;
constexpr std::uint32_t timer_vector = 0x320;

bool x2apic = false;

bool bit_of(std::uint32_t offset, std::uint8_t vector) {
    return (apic_register(offset + (vector / 32U) * 16U) >> (vector % 32) & 1) != 0;
}

void send(std::uint32_t command) {
    apic_register(command_high) = apic_register(id);
    apic_register(command_low) = command;
}

}  // namespace

void start_local_apic() {
    out_byte(0x21, 0xFF);
    out_byte(0xA1, 0xFF);
    start_own_local_apic();
}

void start_own_local_apic() {
    apic_register(timer_vector) = 0x10000;
    apic_register(task_priority) = 0;
    apic_register(spurious) = 0x1FF;
}

void use_x2apic(bool used) {
    x2apic = used;
}

void end_of_interrupt() {
    if (x2apic) {
        write_msr(0x80B, 0);
    } else {
        apic_register(eoi) = 0;
    }
}

// 0x4000: level assert, which both delivery modes want; physical destination, by this APIC's own id.
void send_self_interrupt(std::uint8_t vector) {
    send(0x4000U | vector);
}
void send_command(std::uint32_t apic_id, std::uint32_t command) {
    if (x2apic) {
        write_msr(0x830, std::uint64_t{apic_id} << 32 | command);
    } else {
        apic_register(command_high) = apic_id << 24;
        apic_register(command_low) = command;
    }
}
void send_self_nmi() {
    send(0x4400);
}

bool interrupt_requested(std::uint8_t vector) {
    return bit_of(requests, vector);
}
bool interrupt_in_service(std::uint8_t vector) {
    return bit_of(in_service, vector);
}

}  // namespace flatback::guests
