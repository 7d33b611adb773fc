// An L0 that ends on one of several processors: what it says of the others, beside where they were.
#pragma once

#include <string>

#include "tools/emulator/transcript.hpp"

namespace flatback::tools {

// Of the bare L1's parts `l0-stops-*` (guests/bare/checks/trial_l0_stops.cpp): empty where L0 has told once
// why it ended, and of each other processor, in a line of its own, what that did and where.
// With its trace, the last events of all processors are one list by their times, with the processor of each.
[[nodiscard]] std::string what_ended_l0_lacks(const Transcript& transcript);

}  // namespace flatback::tools
