// Events: interruption information, and beside it interruptibility and activity state, pending debug
// exceptions.
#pragma once

#include <cstdint>

#include "../x86/exception.hpp"
#include "interruption_bits.hpp"

namespace flatback::vmx {

// The format shared by VM-entry and VM-exit interruption information and IDT-vectoring information
// (SDM 3C tables 25-17, 25-19 and 25-20).
struct InterruptionInformation {
    std::uint32_t value = 0;

    // clang-format off
    static constexpr std::uint32_t vector_mask             = 0xff;
    static constexpr unsigned      type_shift              = 8;
    static constexpr std::uint32_t error_code_bit          = 1u << 11;  // deliver, or valid
    static constexpr std::uint32_t nmi_unblocking_bit      = 1u << 12;  // VM exit only: NMI unblocking due to IRET
    static constexpr std::uint32_t valid_bit               = 1u << 31;
    static constexpr std::uint32_t entry_reserved_bits     = 0x7fff'f000;
    // clang-format on

    [[nodiscard]] constexpr bool is_valid() const { return (value & valid_bit) != 0; }
    [[nodiscard]] constexpr std::uint8_t vector() const {
        return static_cast<std::uint8_t>(value & vector_mask);
    }
    [[nodiscard]] constexpr InterruptionType type() const {
        return static_cast<InterruptionType>(value >> type_shift & 7);
    }
    [[nodiscard]] constexpr bool has_error_code() const { return (value & error_code_bit) != 0; }
    [[nodiscard]] constexpr bool has_nmi_unblocking() const { return (value & nmi_unblocking_bit) != 0; }

    // Software interrupts and software exceptions: their instruction's length matters.
    [[nodiscard]] constexpr bool is_software() const {
        return type() == InterruptionType::software_interrupt ||
               type() == InterruptionType::privileged_software_exception ||
               type() == InterruptionType::software_exception;
    }
    [[nodiscard]] constexpr bool is_hardware_exception(x86::Vector of) const {
        return is_valid() && type() == InterruptionType::hardware_exception &&
               vector() == static_cast<std::uint8_t>(of);
    }

    [[nodiscard]] static constexpr InterruptionInformation make(InterruptionType type, std::uint8_t vector,
                                                                bool with_error_code = false) {
        return {valid_bit | static_cast<std::uint32_t>(type) << type_shift | vector |
                (with_error_code ? error_code_bit : 0)};
    }
    [[nodiscard]] static constexpr InterruptionInformation exception(x86::Vector vector) {
        const auto number = static_cast<std::uint8_t>(vector);
        const InterruptionType type = x86::is_software_exception(number)
                                          ? InterruptionType::software_exception
                                          : InterruptionType::hardware_exception;
        return make(type, number, x86::has_error_code(number));
    }
    [[nodiscard]] static constexpr InterruptionInformation external(std::uint8_t vector) {
        return make(InterruptionType::external_interrupt, vector);
    }
    [[nodiscard]] static constexpr InterruptionInformation nmi() {
        return make(InterruptionType::nmi, static_cast<std::uint8_t>(x86::Vector::nmi));
    }

    friend constexpr bool operator==(InterruptionInformation, InterruptionInformation) = default;
};

// What VM entry refuses (SDM 3C 27.3.1.5).
namespace interruptibility {
inline constexpr std::uint32_t reserved_bits = 0xffff'ffe0;
}  // namespace interruptibility
namespace pending_debug {
inline constexpr std::uint64_t reserved_bits =
    ~(breakpoint_conditions | enabled_breakpoint | single_step | in_transaction);
}  // namespace pending_debug

}  // namespace flatback::vmx
