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

constexpr std::uint32_t msr_apic_base = 0x1B;
constexpr std::uint64_t x2apic_enable = 1U << 10;

bool x2apic = false;

std::uint32_t msr_of(std::uint32_t offset) {
    return 0x800 + offset / 16;
}
std::uint32_t read_register(std::uint32_t offset) {
    return x2apic ? static_cast<std::uint32_t>(read_msr(msr_of(offset))) : apic_register(offset);
}
void write_register(bool by_msr, std::uint32_t offset, std::uint32_t value) {
    if (by_msr) {
        write_msr(msr_of(offset), value);
    } else {
        apic_register(offset) = value;
    }
}

bool bit_of(std::uint32_t offset, std::uint8_t vector) {
    return (read_register(offset + (vector / 32U) * 16U) >> (vector % 32) & 1) != 0;
}

void send(std::uint32_t command) {
    const std::uint32_t own = read_register(id);
    send_command(x2apic ? own : own >> 24, command);
}

}  // namespace

void start_local_apic() {
    out_byte(0x21, 0xFF);
    out_byte(0xA1, 0xFF);
    x2apic = is_in_x2apic_mode();
    start_own_local_apic();
}

// By the processor's own mode: another one may be in a part that has all processors change theirs.
void start_own_local_apic() {
    const bool by_msr = is_in_x2apic_mode();
    write_register(by_msr, timer_vector, 0x10000);
    write_register(by_msr, task_priority, 0);
    write_register(by_msr, spurious, 0x1FF);
}
bool is_in_x2apic_mode() {
    const bool has_apic = (cpuid(1).edx >> 9 & 1) != 0;
    return has_apic && (read_msr(msr_apic_base) & x2apic_enable) != 0;
}

void use_x2apic(bool used) {
    x2apic = used;
}

void end_of_interrupt() {
    write_register(x2apic, eoi, 0);
}

// 0x4000: level assert, which both delivery modes want; physical destination, by this APIC's own id.
void send_self_interrupt(std::uint8_t vector) {
    send(0x4000U | vector);
}
void send_command(std::uint32_t apic_id, std::uint32_t command) {
    if (x2apic) {
        write_msr(msr_of(command_low), std::uint64_t{apic_id} << 32 | command);
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
