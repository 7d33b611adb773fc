// System-management RAM: what runs from it is above every hypervisor, so that whoever can write to it owns
// L0.
#pragma once

namespace flatback::metal {

// Closes and locks it where the chipset is known (until the next reset, SMRAM control's D_LCK); says so in
// the log where it is neither known nor covered by the processor's own range register. Before L1 runs.
void lock_smram();

}  // namespace flatback::metal
