// INIT and SIPI of L1's, on the processor that they are for.
#pragma once

#include "metal/l0/cpu.hpp"

namespace flatback::metal {

// The processor has taken INIT. Returns when L1 has started it: vmcs01 is current and has the state of SIPI,
// and nothing is left of what L1 had here but what INIT leaves alone (SDM 3A table 10-1).
void start_again(Cpu& cpu);
// The same of one on which L1 has not run: CR0.CD and NW, which INIT leaves alone too, are as after power-up,
// whatever L0 has had there.
void start_first(Cpu& cpu);

// What other processors have asked of this one. `entry` is what was about to happen; the VMCS of the guest
// that is entered then is current, before and after.
[[nodiscard]] nested::Entry answer_requests(Cpu& cpu, nested::Entry entry);

}  // namespace flatback::metal
