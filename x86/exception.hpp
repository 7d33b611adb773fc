// Interrupt and exception vectors (SDM 3A table 6-1).
#pragma once

#include <cstdint>

namespace flatback::x86 {

// clang-format off
enum class Vector : std::uint8_t {
    divide_error               = 0,   // #DE
    debug                      = 1,   // #DB
    nmi                        = 2,
    breakpoint                 = 3,   // #BP
    overflow                   = 4,   // #OF
    bound_range                = 5,   // #BR
    invalid_opcode             = 6,   // #UD
    device_not_available       = 7,   // #NM
    double_fault               = 8,   // #DF
    invalid_tss                = 10,  // #TS
    segment_not_present        = 11,  // #NP
    stack_fault                = 12,  // #SS
    general_protection         = 13,  // #GP
    page_fault                 = 14,  // #PF
    floating_point             = 16,  // #MF
    alignment_check            = 17,  // #AC
    machine_check              = 18,  // #MC
    simd_floating_point        = 19,  // #XM
    virtualization             = 20,  // #VE
    control_protection         = 21,  // #CP
};
// clang-format on

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
