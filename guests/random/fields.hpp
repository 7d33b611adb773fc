// Which VMCS fields a case may name.
#pragma once

#include <cstdint>

#include "guests/random/random.hpp"

namespace flatback::guests {

// Of the current VMCS.
bool has_ept();
// Without EPT an exit saves no PDPTEs (SDM 3C 28.3.1).
bool is_pdpte(std::uint64_t encoding);

// The operand of a VMREAD or VMWRITE: mostly a field, its high half or not, sometimes none. A write changes
// guest state only.
std::uint64_t draw_field(Random& random, bool is_write);

}  // namespace flatback::guests
