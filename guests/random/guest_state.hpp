// A legal VMCS for each mode of L2, with whatever controls an L0 promises.
#pragma once

#include <cstdint>

#include "guests/random/random.hpp"

namespace flatback::guests {

enum class L2Mode : std::uint8_t {
    long64,
    user64,
    compatibility,
    pae,        // protected mode with PAE paging
    paging32,   // protected mode with 32-bit paging
    user32,     // the same, CPL 3
    no_paging,  // protected mode without paging: unrestricted guest
    real,       // unrestricted guest
    virtual8086,
};
constexpr unsigned l2_modes = 9;

constexpr unsigned code_bits(L2Mode mode) {
    if (mode <= L2Mode::user64) return 64;
    return mode >= L2Mode::real ? 16 : 32;
}

// A mode for an L2 with EPT, or without, where it cannot be without paging (SDM 3C 27.3.1.1).
L2Mode draw_mode(Random& random, bool with_ept);

// Writes all controls of the current VMCS: legal ones, drawn at random among those that are safe for this L1.
void write_controls(Random& random, L2Mode mode, bool with_ept = true);

// Writes host state: L1's own, with what may differ drawn at random.
void write_host_state(Random& random);

// Writes all guest state: legal, with what may differ drawn at random. L2 begins at the first slot of its
// code.
void write_guest_state(Random& random, L2Mode mode, bool with_ept = true);

// L2's code stands in slots of 32 bytes from l2_memory::code up.
constexpr std::uint64_t slot_size = 32;
constexpr std::uint64_t slots = 12;

// Guest RIP of a slot: real and virtual-8086 mode have their CS base there.
std::uint64_t slot_rip(L2Mode mode, std::uint64_t slot);

}  // namespace flatback::guests
