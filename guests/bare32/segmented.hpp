// VMX instructions whose operand lies in FS or SS, the segment that a check describes.
#pragma once

#include <cstdint>

#include "guests/bare32/vmx_instructions.hpp"

namespace flatback::guests::bare32 {

// Loads FS with the segment at `described_selector`; with null.
void load_described_fs(std::uint64_t descriptor);
void load_null_fs();

// Goes on in that code segment.
void load_cs(std::uint16_t selector);

// The operand at this offset in FS.
Outcome try_vmptrst_fs(std::uint32_t offset);
Outcome try_vmptrld_fs(std::uint32_t offset);
Outcome try_vmclear_fs(std::uint32_t offset);
Outcome try_vmread_to_fs(std::uint32_t encoding, std::uint32_t offset);
Outcome try_vmwrite_from_fs(std::uint32_t encoding, std::uint32_t offset);
Outcome try_invept_fs(std::uint32_t type, std::uint32_t offset);

// The same with a 16-bit address: BX + SI.
Outcome try_vmptrst_fs_16(std::uint16_t bx, std::uint16_t si);

// VMPTRST to SS:offset, with SS the segment that is described, in which this guest's stack lies too.
Outcome try_vmptrst_ss(std::uint64_t descriptor, std::uint32_t offset);

}  // namespace flatback::guests::bare32
