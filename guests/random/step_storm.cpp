// NMIs at any tick, from the interval timer through the I/O APIC, while L1 does what takes an L0 some time.
// How many came is no result; that none is left behind, and that none changed what the entries did, is one.
#include "guests/bare/enter_l2.hpp"
#include "guests/bare/port.hpp"
#include "guests/bare/vmx_instructions.hpp"
#include "guests/random/faults.hpp"
#include "guests/random/log.hpp"
#include "guests/random/steps.hpp"
#include "guests/random/world.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t io_apic = 0xFEC00000;
constexpr std::uint64_t local_apic_id = 0xFEE00020;
constexpr std::uint32_t first_redirection = 0x10;
constexpr std::uint32_t delivery_nmi = 0x400;
constexpr std::uint32_t masked = 0x10000;

volatile std::uint32_t& at(std::uint64_t address) {
    return *reinterpret_cast<volatile std::uint32_t*>(address);
}

void write_io_apic(std::uint32_t index, std::uint32_t value) {
    at(io_apic) = index;
    at(io_apic + 0x10) = value;
}

// The timer is on input 2, or on 0 where nothing reroutes it.
void route_timer(std::uint32_t how) {
    for (const std::uint32_t input : {0U, 2U}) {
        write_io_apic(first_redirection + 2 * input + 1, at(local_apic_id));
        write_io_apic(first_redirection + 2 * input, how);
    }
}

// Channel 0 as a rate generator; `counts` of 838 ns.
void start_timer(std::uint16_t counts) {
    out_byte(0x43, 0x34);
    out_byte(0x40, static_cast<std::uint8_t>(counts));
    out_byte(0x40, static_cast<std::uint8_t>(counts >> 8));
}

}  // namespace

void step_storm(Random& random) {
    make_a_guest_current();
    const unsigned vmcs = current_vmcs();
    if (vmcs >= 2) return;
    // RFLAGS bit 1 is 0: no entry succeeds (SDM 3C 27.3.1.4).
    const std::uint64_t rflags = read(field::guest_rflags);
    write(field::guest_rflags, 0);
    start_timer(static_cast<std::uint16_t>(48 + random.below(64)));
    route_timer(delivery_nmi);
    constexpr unsigned entries = 40;
    constexpr std::uint64_t refused = 0x80000021;
    const std::uint64_t expected_error = world.launched[vmcs] ? 0 : 1;
    std::uint64_t others = 0;
    std::uint64_t first_other = 0;
    for (unsigned i = 0; i < entries; ++i) {
        GuestRegisters registers{};
        last_fault.taken = false;
        const std::uint64_t flags = enter_l2(&registers, expected_error != 0);
        const std::uint64_t reason = flags != 0 ? 0 : std::uint64_t{read(field::exit_reason)};
        if (flags == 0 && reason == refused) continue;
        // Controls or host state that an earlier step left bad: the same each time.
        if (others++ == 0) first_other = reason;
    }
    route_timer(masked);
    // What was sent has come by then.
    for (unsigned i = 0; i < 3000; ++i) asm volatile("" : : : "memory");
    asm volatile("int $0x30" : : : "memory");
    nmi_count = 0;
    write(field::guest_rflags, rflags);
    Line line;
    line << "storm";
    put(line, "others", others);
    put(line, "first", first_other);
    log_line(line);
}

}  // namespace flatback::guests
