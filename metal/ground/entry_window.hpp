// An NMI, or a machine check, that comes between L0's last look at what waits and the VM entry: it must not
// wait for the guest's next exit, which may be far.
#pragma once

#include "metal/ground/interrupt_frame.hpp"

namespace flatback::metal {

// The frame is that of an NMI or a machine check in L0. Where it interrupted the way from the look to
// VMRESUME or VMLAUNCH (metal/l0/entry.S), the way begins again: the guest's registers are still in the exit
// frame, popped or not.
void look_again(InterruptFrame& frame);

}  // namespace flatback::metal
