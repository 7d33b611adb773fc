// Guest state in which the emulator is known to go wrong (deviations.hpp) is made legal before an entry.
#pragma once

#include <cstdint>

namespace flatback::guests {

// Pending debug exceptions beside blocking by STI or MOV SS: behind whatever changed one of them.
void settle_single_step();

// The rest. The VMCS is the current one.
void settle_before_entry(unsigned vmcs);

// Behind an entry that ended with this reason.
void settle_after_failure(std::uint32_t reason);

// Behind an exit: whether an L2 with virtual NMIs left them blocked.
void note_virtual_nmi_blocking();

}  // namespace flatback::guests
