// What L0 does for L1 itself: the exits that are unconditional, and the few that it asked for.
#pragma once

#include <cstdint>

#include "host/cpuid.hpp"
#include "metal/l0/cpu.hpp"
#include "vmx/exit_reason.hpp"

namespace flatback::metal {

// vmcs01 is current, and stays so unless L1 entered L2.
nested::Entry handle_l1_exit(Cpu& cpu, std::uint32_t exit_reason);

// The leaves 4000_0000H to 4000_00FFH (docs/counters.md).
[[nodiscard]] host::CpuidRegisters information_leaf(Cpu& cpu, std::uint32_t leaf, std::uint32_t index);

}  // namespace flatback::metal
