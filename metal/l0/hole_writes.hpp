// Writes to where a guest has no memory, by L1 or by an L2 (under EPT01 or an EPT02 of its own): they vanish.
//
// Such a hole is mapped read-only to a page of ones. A write exits; it is then let through, for one
// instruction (or one delivery of an event), to that page, which is filled with ones again. The processor
// stops behind it by TF, with all that could see TF kept off, and behind a delivery by the preemption timer;
// where it has no such timer, by the monitor trap flag. An exit for any other reason in between ends it as
// well: what was not done then comes again.
//
// Writes to the local APIC's page that L0 keeps from a guest go the same way, to a page from which L0 does
// them in the guest's place once the instruction is done (RealApic::let_write), and so do those to other
// registers that L0 keeps (KeptPages::let_write).
#pragma once

#include <cstdint>

#include "metal/boot/boot_result.hpp"

namespace flatback::metal {

struct Cpu;

// On each processor, before L1 runs there.
void prepare_hole_writes(BootResult& boot);

// An EPT violation under EPT01 at this address, the guest's VMCS current. True: it was a write to a hole and
// goes through at the next entry, an interrupted delivery too once the caller asks for it again.
[[nodiscard]] bool let_hole_write_through(std::uint64_t guest_physical);
// The same for an L2 with an EPT of L1's, whose EPT02 now allows the write (Port::let_write_vanish).
void let_hole_write_through_ept02();

// The same for a write to the APIC's page (RealApic::let_write_in_ept01).
void let_kept_write_through_ept01();

// The next entry is that of such an instruction: nothing else may be given to the guest at it.
[[nodiscard]] bool hole_write_is_under_way();

// That entry failed: the instruction comes again later.
void put_off_hole_write(Cpu& cpu);

}  // namespace flatback::metal
