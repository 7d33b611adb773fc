#include "metal/processors/boot_apic.hpp"

#include "metal/ground/instructions.hpp"
#include "metal/memory/address_space.hpp"
#include "x86/cpuid.hpp"
#include "x86/msr.hpp"

namespace flatback::metal {
namespace {

// In words of 4 bytes from the page's start; the MSR of x2APIC mode is 800H + offset / 16.
constexpr unsigned spurious_vector = 0xF0 / 4;
constexpr unsigned command_low = 0x300 / 4;
constexpr unsigned command_high = 0x310 / 4;
constexpr std::uint32_t x2apic_command = 0x830;
constexpr std::uint32_t software_enabled = 1 << 8;
constexpr std::uint32_t delivery_pending = 1 << 12;
constexpr std::uint32_t all_but_self = 3 << 18;
constexpr unsigned longest_wait = 100'000;

}  // namespace

BootApic::BootApic() {
    const std::uint64_t base = read_msr(x86::msr::ia32_apic_base);
    enabled_ = (base & x86::apic_base::global_enable) != 0;
    x2apic_ = (base & x86::apic_base::x2apic_enable) != 0;
    const std::uint64_t address = base & x86::apic_base::address_mask;
    if (address >= direct_map_size()) enabled_ = false;
    if (enabled_ && !x2apic_) page_ = direct_map_as<volatile std::uint32_t>(x86::Hpa{address});
}

void BootApic::send_to_all_others(std::uint32_t command) const {
    send(0, command | all_but_self);
}

void BootApic::send_to(std::uint32_t apic_id, std::uint32_t command) const {
    send(apic_id, command);
}

void BootApic::send(std::uint32_t destination, std::uint32_t command) const {
    if (x2apic_) return write_msr(x2apic_command, std::uint64_t{destination} << 32 | command);
    wait_until_sent();  // what L1 sent is not to be lost
    const std::uint32_t spurious = page_[spurious_vector];
    const std::uint32_t before = page_[command_high];
    page_[spurious_vector] = spurious | software_enabled;
    page_[command_high] = destination << 24;
    page_[command_low] = command;
    wait_until_sent();
    page_[command_high] = before;
    page_[spurious_vector] = spurious;
}

void BootApic::wait_until_sent() const {
    for (unsigned tries = 0; tries < longest_wait && (page_[command_low] & delivery_pending) != 0; ++tries) {
        asm volatile("pause");
    }
}

std::uint32_t own_apic_id() {
    constexpr std::uint32_t topology_leaf = 0xB;
    if (cpuid(x86::cpuid::leaf_vendor).eax >= topology_leaf) {
        const x86::CpuidResult topology = cpuid(topology_leaf);
        if (topology.ebx != 0) return topology.edx;
    }
    return cpuid(x86::cpuid::leaf_features).ebx >> 24;
}

void wait_microseconds(unsigned microseconds) {
    // 8254, channel 2, mode 0: its output, at bit 5 of port 61H, becomes 1 when it has counted down.
    constexpr std::uint16_t gate = 0x61;
    constexpr std::uint16_t counter = 0x42;
    constexpr std::uint16_t control = 0x43;
    constexpr std::uint8_t done = 1 << 5;
    const std::uint32_t counts = microseconds * 1193U / 1000U;
    const std::uint8_t before = read_port_8(gate);
    write_port_8(gate, static_cast<std::uint8_t>((before & ~3U) | 1U));  // counts; the speaker is off
    write_port_8(control, 0xB0);
    write_port_8(counter, static_cast<std::uint8_t>(counts));
    write_port_8(counter, static_cast<std::uint8_t>(counts >> 8));
    // A read takes about 1 us.
    for (unsigned reads = 0; reads < 2 * microseconds && (read_port_8(gate) & done) == 0; ++reads) {
    }
    write_port_8(gate, before);
}

}  // namespace flatback::metal
