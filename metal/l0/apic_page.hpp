// L1's writes to the page of its local APIC, in xAPIC mode, where L0 keeps them to itself.
#pragma once

#include "metal/l0/cpu.hpp"

namespace flatback::metal {

// L1, whose VMCS is current, has exited by an EPT violation on a write there. The instruction is done, or L1
// has its fault.
void emulate_apic_write(Cpu& cpu, std::uint64_t guest_physical);

}  // namespace flatback::metal
