// A machine check that came while L0 ran. One while a guest runs is the guest's, and never comes here.
#pragma once

#include "metal/ground/interrupt_frame.hpp"

namespace flatback::metal {

// IA32_MCG_STATUS.MCIP: the processor is in a machine check.
[[nodiscard]] bool machine_check_in_progress();

// Where the processor can go on (machine_check_verdict.hpp), the guest that is entered next gets it
// (nmi_state::machine_check); a processor that waits for L1 to start it forgets it, as a parked one does.
// Else what was lost may be L0's: says what the banks hold, and ends.
void take_machine_check(const InterruptFrame& frame);

// The same for one that made a VM entry fail (SDM 3C 27.9), which has no frame.
void take_machine_check_of_entry();

// L1 does not run here: nobody else ends the machine check, and a second one would be a shutdown.
void forget_machine_check();

}  // namespace flatback::metal
