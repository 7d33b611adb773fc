// Segment registers, and what a segment's limit may be.
#pragma once

#include <cstdint>

#include "segment_bits.hpp"

namespace flatback::x86 {

// The limit must not have low bits missing with G = 1, nor high bits set with G = 0 (SDM 3C 27.3.1.2).
[[nodiscard]] constexpr bool limit_matches_granularity(std::uint32_t limit, AccessRights rights) {
    if ((limit & 0xfff) != 0xfff && rights.has_page_granularity()) return false;
    return (limit & 0xfff0'0000) == 0 || rights.has_page_granularity();
}

}  // namespace flatback::x86
