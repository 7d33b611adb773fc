// What a 32-bit L1 does in a step: an operand through a segment, and entries.
#pragma once

#include <cstdint>

#include "guests/bare/l1/report.hpp"
#include "guests/random/narrow.hpp"
#include "guests/random/random.hpp"

namespace flatback::guests {

// One VMX instruction whose operand is found through a segment that was loaded for it (SDM 3A 5.3, 5.5).
struct NarrowOperand {
    std::uint64_t descriptor;  // with a base of 0
    std::uint32_t selector;
    std::uint32_t base_below;   // how far the segment's base is below the operand
    std::uint32_t instruction;  // by its place in the table
    std::uint32_t segment;      // ES, FS, GS, DS
    std::uint32_t encoding;     // of VMREAD and VMWRITE
    std::uint32_t written;      // the field that a VMWRITE may change, or 0
};
NarrowOperand draw_narrow_operand(Random& random);

// Makes the subroutine and the descriptor; the operand is at this linear address. Returns the code's address.
std::uint32_t write_narrow_code(const NarrowOperand& operand, std::uint32_t linear);

void put_narrow_operand(const NarrowOperand& operand, const NarrowScript& script, std::uint64_t memory);

// Fills the current VMCS with an L2 without IA-32e mode, and with the 32-bit host that `script` makes.
void fill_narrow_guest(Random& random, NarrowScript& script, Line& line);

// What came of the entries. The VMCS is current again.
void put_narrow_exits(const NarrowScript& script);

}  // namespace flatback::guests
