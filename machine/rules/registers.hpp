// What registers may hold, as the SDM has it. Whoever is judged has rules of its own.
#pragma once

#include <cstdint>

namespace flatback::machine::rules {

/// CR0: PE, MP, EM, TS, ET, NE, WP, AM, NW, CD, PG. A MOV ignores the other bits of 31:0 (SDM 3A 2.5).
inline constexpr std::uint64_t cr0_bits = 0x3F | 1U << 16 | 1U << 18 | 7ULL << 29;
/// SCE, LME, LMA, NXE (SDM 3A 2.2.1).
inline constexpr std::uint64_t efer_bits = 1U << 0 | 1U << 8 | 1U << 10 | 1U << 11;
/// IA32_DEBUGCTL: LBR, BTF, TR, BTS, BTINT, the two BTS_OFF, the two freezes on PMI, ENABLE_UNCORE_PMI, the
/// freeze in SMM, RTM (SDM 3B 18.4.1).
inline constexpr std::uint64_t debugctl_bits = 3U << 0 | 0x3FFU << 6;
/// RFLAGS: bit 1 is set always; 3, 5, 15 and all from 22 up are clear (SDM 1 3.4.3).
inline constexpr std::uint64_t rflags_set = 1U << 1;
inline constexpr std::uint64_t rflags_clear = 1U << 3 | 1U << 5 | 1U << 15 | ~std::uint64_t{0} << 22;

/// Eight memory types: UC, WC, WT, WP, WB or UC- (SDM 3A 12.12.2).
[[nodiscard]] constexpr bool is_page_attribute_table(std::uint64_t pat) {
    for (unsigned entry = 0; entry < 8; ++entry) {
        const std::uint64_t type = pat >> (8 * entry) & 0xFF;
        if (type > 7 || type == 2 || type == 3) return false;
    }
    return true;
}

/// Of a segment's access rights bits 11:8 and 31:17 are reserved (SDM 3C table 25-2).
inline constexpr std::uint32_t access_rights_clear = 0xFU << 8 | 0x7FFFU << 17;

/// SDM 3C 27.3.1.2: with a bit of 11:0 clear in the limit G must be 0; with one of 31:20 set, 1.
[[nodiscard]] constexpr bool limit_agrees_with_granularity(std::uint32_t limit, bool granularity) {
    for (unsigned bit = 0; bit < 12; ++bit) {
        if ((limit >> bit & 1) == 0 && granularity) return false;
    }
    for (unsigned bit = 20; bit < 32; ++bit) {
        if ((limit >> bit & 1) != 0 && !granularity) return false;
    }
    return true;
}

/// Interruptibility state: bits 31:5 (SDM 3C table 25-3).
inline constexpr std::uint32_t interruptibility_clear = ~std::uint32_t{0x1F};
/// Pending debug exceptions: all but B0 to B3, the enabled breakpoint, BS and RTM (SDM 3C table 25-4).
inline constexpr std::uint64_t pending_debug_clear = ~(std::uint64_t{0xF} | 1U << 12 | 1U << 14 | 1U << 16);

}  // namespace flatback::machine::rules
