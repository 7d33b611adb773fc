// Programs for L2: a few instructions a slot, whatever they do there.
#pragma once

#include "guests/random/guest_state.hpp"

namespace flatback::guests {

// Fills L2's slots for code of 16, 32 or 64 bits; each ends in NOPs and runs on into the next, the last into
// a VMCALL for ever.
void write_l2_code(Random& random, unsigned bits);

}  // namespace flatback::guests
