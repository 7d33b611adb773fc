// A machine check that came while L0 ran.
#pragma once

#include "metal/ground/interrupt_frame.hpp"

namespace flatback::metal {

// IA32_MCG_STATUS.MCIP: the processor is in a machine check, and vector 18 is no interrupt that happens to
// have it.
[[nodiscard]] bool machine_check_in_progress();

// Says what the processor's banks hold and ends: what was lost may be L0's, and whether the guest that runs
// next can go on nobody knows. A machine check while a guest runs is the guest's, and never comes here.
[[noreturn]] void report_machine_check(const InterruptFrame& frame);

}  // namespace flatback::metal
