// What a VM exit left for L1 to see, as lines of the log.
#pragma once

#include <cstdint>

#include "guests/bare/l1/enter_l2.hpp"
#include "guests/bare/l1/report.hpp"

namespace flatback::guests {

enum class Look : std::uint8_t {
    brief,  // exit information, RIP, RFLAGS, registers
    whole,  // and a checksum of every guest-state field: reading a field must not be what makes it right
    all,    // and each field by name, with L1's own registers
};

// Appends what the exit with this reason defines (SDM 3C 28.2). The qualification of an entry that failed is
// left out where the processor chooses it.
void put_exit(Line& line, std::uint32_t reason, const GuestRegisters& registers, Look look,
              bool is_qualification_free = false);

// A line for some fields each, names and values: guest state and controls.
void print_all_fields();

}  // namespace flatback::guests
