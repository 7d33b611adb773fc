// The processors that L1 does not get.
#pragma once

#include "metal/ground/memory_map.hpp"
#include "metal/ground/processor.hpp"

namespace flatback::metal {

class PagePool;

// Starts every other processor of the machine and parks it for good, halted in VMX root operation. There it
// is out of L1's reach: INIT is blocked (SDM 3C 24.8) and SIPI has no effect without it, so that nothing L1
// does with its local APIC makes one run outside of L0. An NMI or a machine check is taken and forgotten.
//
// expected: how many should answer; memory: where a page below 1 MB is free for their first instructions,
// apart from `occupied`. What is not as it should be is one line of the log. Called once, with interrupts
// off.
void park_other_processors(unsigned expected, const Processor& processor, PagePool& pages,
                           const MemoryMap& memory, std::span<const PhysicalRange> occupied);

}  // namespace flatback::metal
