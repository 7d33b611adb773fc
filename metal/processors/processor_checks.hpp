// Is this a processor that Flatback can run on?
#pragma once

#include "metal/ground/options.hpp"
#include "metal/ground/processor.hpp"

namespace flatback::metal {

// Reads CPUID and the VT-x capability MSRs; refuses (one line on the serial port, then the machine stops)
// where something is missing that Flatback cannot do without. Where the firmware left IA32_FEATURE_CONTROL
// unlocked, allows VMXON and locks it.
// options: what of the processor is not to be used.
[[nodiscard]] Processor check_processor(const Options& options);

}  // namespace flatback::metal
