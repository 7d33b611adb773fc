// The areas of MSRs that a VM entry loads and an exit stores and loads (SDM 3C 25.7.2, 25.8.2).
#pragma once

#include <cstdint>

#include "guests/bare/l1/report.hpp"
#include "guests/random/random.hpp"

namespace flatback::guests {

// All three lists of the current VMCS, and their counts.
void draw_lists(Random& random, Line& line);

// The first `count` entries of the list to be loaded at an entry, each of which succeeds.
void draw_entry_list(Random& random, std::uint64_t count);
// One of them is to fail.
void spoil_entry_list(Random& random, std::uint64_t entry);

}  // namespace flatback::guests
