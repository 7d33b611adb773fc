// Segment registers, and what a segment's limit may be.
#pragma once

#include <cstdint>

#include "control_registers.hpp"
#include "segment_bits.hpp"

namespace flatback::x86 {

// The limit must not have low bits missing with G = 1, nor high bits set with G = 0 (SDM 3C 27.3.1.2).
[[nodiscard]] constexpr bool limit_matches_granularity(std::uint32_t limit, AccessRights rights) {
    if ((limit & 0xfff) != 0xfff && rights.has_page_granularity()) return false;
    return (limit & 0xfff0'0000) == 0 || rights.has_page_granularity();
}

// 64-bit mode, whose operands and RIP have 64 bits. CS.L alone does not tell: outside IA-32e mode the bit is
// reserved (SDM 3A 3.4.5), and who loads a descriptor that has it still runs 32-bit code.
[[nodiscard]] constexpr bool is_64_bit_mode(std::uint64_t efer, AccessRights code) {
    return code.is_long_mode() && (efer & efer::long_mode_active) != 0;
}

}  // namespace flatback::x86
