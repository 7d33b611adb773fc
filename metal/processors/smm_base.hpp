// Where a processor goes at a system-management interrupt, if the firmware has not said: to 38000H, in memory
// that L1 gets (SDM 3C 32.4). An L1 could put a handler there, send the interrupt by its local APIC, and
// would be above L0.
#pragma once

#include <cstdint>
#include <span>

namespace flatback::metal {

class BootApic;
class PagePool;

// Sends one system-management interrupt to each of these processors (this one may be among them). Where the
// firmware has a handler of its own, in SMRAM, that runs; a processor that comes to 38000H gets another base,
// in L0's own memory, where such interrupts do nothing. How many did. They must be running or halted, with
// nothing of theirs below 1 MB but what this processor may overwrite for a moment.
unsigned move_system_management_bases(const BootApic& apic, std::span<const std::uint32_t> apic_ids,
                                      PagePool& pages);

}  // namespace flatback::metal
