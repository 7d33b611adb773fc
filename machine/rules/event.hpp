// Events as the SDM has them: interruption information, and what each kind of event brings along. Whoever is
// judged has rules of its own.
#pragma once

#include <cstdint>

#include "../../vmx/interruption_bits.hpp"

namespace flatback::machine::rules {

/// Exceptions that push an error code in protected mode (SDM 3A table 6-1): #DF, #TS, #NP, #SS, #GP, #PF,
/// #AC. (#CP too, where there is CET; there is none here.)
[[nodiscard]] constexpr bool pushes_error_code(unsigned vector) {
    switch (vector) {
        case 8:
        case 10:
        case 11:
        case 12:
        case 13:
        case 14:
        case 17:
            return true;
        default:
            return false;
    }
}

/// The interruption-information fields (SDM 3C tables 25-17, 25-19, 25-20): vector 7:0, type 10:8, error code
/// 11, for VM exits NMI unblocking by IRET 12, valid 31.
struct EventInformation {
    std::uint32_t value = 0;

    static constexpr std::uint32_t valid = 1U << 31;
    static constexpr std::uint32_t error_code = 1U << 11;
    static constexpr std::uint32_t nmi_unblocking = 1U << 12;
    static constexpr std::uint32_t reserved_at_entry = 0x7FFF'F000;

    [[nodiscard]] constexpr bool is_valid() const { return (value & valid) != 0; }
    [[nodiscard]] constexpr std::uint8_t vector() const { return static_cast<std::uint8_t>(value); }
    [[nodiscard]] constexpr vmx::InterruptionType type() const {
        return static_cast<vmx::InterruptionType>(value >> 8 & 7);
    }
    [[nodiscard]] constexpr bool has_error_code() const { return (value & error_code) != 0; }
    [[nodiscard]] constexpr bool is(vmx::InterruptionType what) const { return is_valid() && type() == what; }
    /// INT n, INT1, INT3 and INTO: the event is an instruction, which has a length.
    [[nodiscard]] constexpr bool is_instruction() const {
        return (value >> 8 & 7) >= 4 && (value >> 8 & 7) <= 6;
    }

    [[nodiscard]] static constexpr EventInformation hardware_exception(std::uint8_t vector,
                                                                       bool with_error_code) {
        return {valid | 3U << 8 | vector | (with_error_code ? error_code : 0)};
    }
    [[nodiscard]] static constexpr EventInformation external_interrupt(std::uint8_t vector) {
        return {valid | vector};
    }
    [[nodiscard]] static constexpr EventInformation nmi() { return {valid | 2U << 8 | 2}; }
};

}  // namespace flatback::machine::rules
