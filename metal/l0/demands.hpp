// L0 as a host that wants something of L2 for itself (demands=on), as a hypervisor that schedules does: what
// that costs an exit is measured so, and the engine's events come on a processor.
#pragma once

#include "metal/l0/cpu.hpp"

namespace flatback::metal {

// With vmcs01 filled and current, before the first entry.
void set_up_demands(Cpu& cpu);

// What came and is not given yet: right before an entry, which it may change.
[[nodiscard]] nested::Entry give_waiting_interrupts(Cpu& cpu, nested::Entry entry);

}  // namespace flatback::metal
