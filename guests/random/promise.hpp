// The capabilities that both runs of a comparison use: those of the L0, which are a part of the processor's.
#pragma once

#include <string_view>

#include "guests/bare/l1/report.hpp"

namespace flatback::guests {

// Appends what this processor, or the L0, promises: hexadecimal numbers with commas between.
void put_promise(Line& line);

// Takes such numbers in place of those that the capability MSRs gave. The revision stays the processor's.
void take_promise(std::string_view text);

}  // namespace flatback::guests
