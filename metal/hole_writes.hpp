// Writes to L0's region, by L1 or by an L2 that runs under EPT01: they vanish, as where there is no memory.
//
// The region is mapped read-only to a page of ones. A write exits; it is then let through, for one
// instruction (or one delivery of an event), to that page, which is filled with ones again. The processor
// stops behind it by the monitor trap flag; where it has none, by TF with #DB intercepted, and behind a
// delivery by the preemption timer. An exit for any other reason in between ends it as well: what was not
// done then comes again.
#pragma once

#include "metal/boot_result.hpp"

namespace flatback::metal {

// Before L1 runs.
void prepare_hole_writes(BootResult& boot);

// An EPT violation under EPT01 at this address, the guest's VMCS current. True: it was a write to L0's region
// and goes through at the next entry, an interrupted delivery too once the caller asks for it again.
[[nodiscard]] bool let_hole_write_through(std::uint64_t guest_physical);

// The next entry is to be another than that of the instruction: it comes again later.
void put_off_hole_write();

}  // namespace flatback::metal
