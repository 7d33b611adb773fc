// NMIs at any tick, from the interval timer through the I/O APIC, while L1 does what takes an L0 some time.
// How many came is no result; that none is left behind, and that none changed what the entries did, is one.
#include "guests/bare/l1/enter_l2.hpp"
#include "guests/bare/l1/timer_nmi.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"
#include "guests/random/faults.hpp"
#include "guests/random/log.hpp"
#include "guests/random/steps.hpp"
#include "guests/random/world.hpp"

namespace flatback::guests {
void step_storm(Random& random) {
    make_a_guest_current();
    const unsigned vmcs = current_vmcs();
    if (vmcs >= 2) return;
    // RFLAGS bit 1 is 0: no entry succeeds (SDM 3C 27.3.1.4).
    const std::uint64_t rflags = read(field::guest_rflags);
    write(field::guest_rflags, 0);
    timer_nmi::send_every(static_cast<std::uint16_t>(48 + random.below(64)));
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
    timer_nmi::stop();
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
