// Model-specific registers by number, and the memory types that some of them hold.
#pragma once

#include <cstdint>

#include "msr_numbers.hpp"

namespace flatback::x86 {

// A memory type as in IA32_PAT, the MTRRs and EPT (SDM 3A table 12-2).
enum class MemoryType : std::uint8_t {
    uncacheable = 0,
    write_combining = 1,
    write_through = 4,
    write_protected = 5,
    write_back = 6,
    uncacheable_minus = 7,  // IA32_PAT only
};

// Each of the eight fields is a memory type of IA32_PAT: 0, 1, 4, 5, 6 or 7 (SDM 3A 12.12.2).
[[nodiscard]] constexpr bool is_valid_pat(std::uint64_t pat) {
    constexpr std::uint64_t each_byte = 0x0101'0101'0101'0101;
    if ((pat & (0xf8 * each_byte)) != 0) return false;
    // Of 0 to 7 only 2 and 3 are wrong: bit 1 set while bit 2 is clear.
    return ((pat >> 1) & ~(pat >> 2) & each_byte) == 0;
}

}  // namespace flatback::x86
