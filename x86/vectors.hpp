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

}  // namespace flatback::x86
