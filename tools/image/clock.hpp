// The emulated clock: Bochs is configured by it, and the command line of a Linux tells its rate.
#pragma once

#include <cstdint>

namespace flatback::tools {

// One tick is one instruction; the emulated clock runs at this many instructions per second.
inline constexpr std::uint64_t instructions_per_second = 100'000'000;

// The clock's rate under Linux. At 250 timer interrupts a second, there are 4 million instructions between
// two, as on a PC; were there fewer, the interrupts would be a good part of what is measured.
inline constexpr std::uint64_t linux_instructions_per_second = 1'000'000'000;

}  // namespace flatback::tools
