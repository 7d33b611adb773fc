// Is this a processor that Flatback can run on?
#pragma once

#include "metal/boot_result.hpp"

namespace flatback::metal {

// Reads CPUID and the VT-x capability MSRs; refuses (one line on the serial port, then the machine stops)
// where something is missing that Flatback cannot do without. Where the firmware left IA32_FEATURE_CONTROL
// unlocked, allows VMXON and locks it.
[[nodiscard]] Processor check_processor();

}  // namespace flatback::metal
