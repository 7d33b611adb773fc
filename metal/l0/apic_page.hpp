// L1's writes to the page of its local APIC, in xAPIC mode, and to other registers in memory, where L0 keeps
// them to itself.
#pragma once

#include "metal/l0/cpu.hpp"

namespace flatback::metal {

// L1, whose VMCS is current, has exited by an EPT violation on a write there. True: the instruction is done.
// False: it is not one of the usual ones, and nothing was done (Port::handle_ept01_violation lets it do its
// write).
[[nodiscard]] bool emulate_apic_write(Cpu& cpu, std::uint64_t guest_physical);
// The same on a page of KeptPages.
[[nodiscard]] bool emulate_register_write(Cpu& cpu, std::uint64_t guest_physical);

}  // namespace flatback::metal
