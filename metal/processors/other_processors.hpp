// The machine's other processors: those that L1 gets, and those that it does not.
#pragma once

#include "metal/ground/memory_map.hpp"
#include "metal/ground/processor.hpp"

namespace flatback::metal {

class PagePool;

// Starts every other processor of the machine. Those of `given` (identifiers of APICs; this processor's may
// be among them) become given_processors(), in that order behind this one: each in VMX root operation, on a
// stack of its own, until ProcessorLocal::enter leads it on. One that differs in what L0 goes by is refused.
// The others are parked for good, halted in VMX root operation. There a processor is out of L1's reach: INIT
// is blocked (SDM 3C 24.8) and SIPI has no effect without it, so that nothing L1 does with its local APIC
// makes one run outside of L0. An NMI or a machine check of a parked one is taken and forgotten.
//
// expected: how many should answer; memory: where a page below 1 MB is free for their first instructions,
// apart from `occupied`. What is not as it should be is one line of the log. Called once, with interrupts
// off.
void start_other_processors(unsigned expected, std::span<const std::uint32_t> given,
                            const Processor& processor, PagePool& pages, const MemoryMap& memory,
                            std::span<const PhysicalRange> occupied);

}  // namespace flatback::metal
