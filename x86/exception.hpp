// What kind of exception a vector is (SDM 3A 6.15).
#pragma once

#include <cstdint>

#include "vectors.hpp"

namespace flatback::x86 {

// Exceptions that push an error code in protected mode: #DF, #TS, #NP, #SS, #GP, #PF, #AC and #CP.
inline constexpr std::uint32_t vectors_with_error_code = 0x0022'7d00;

[[nodiscard]] constexpr bool has_error_code(std::uint8_t vector) {
    return vector < 32 && (vectors_with_error_code >> vector & 1) != 0;
}

// The ones whose saved RIP points past the instruction; as VM entry injects them, "software exceptions".
[[nodiscard]] constexpr bool is_software_exception(std::uint8_t vector) {
    return vector == static_cast<std::uint8_t>(Vector::breakpoint) ||
           vector == static_cast<std::uint8_t>(Vector::overflow);
}

// For the rules of double faults (SDM 3A table 6-4).
[[nodiscard]] constexpr bool is_contributory(std::uint8_t vector) {
    constexpr std::uint32_t contributory = 1u << 0 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 21;
    return vector < 32 && (contributory >> vector & 1) != 0;
}

}  // namespace flatback::x86
