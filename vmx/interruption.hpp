// Events: interruption information, interruptibility and activity state, pending debug exceptions.
#pragma once

#include <cstdint>

#include "../x86/exception.hpp"

namespace flatback::vmx {

enum class InterruptionType : std::uint8_t {
    external_interrupt = 0,
    reserved = 1,
    nmi = 2,
    hardware_exception = 3,
    software_interrupt = 4,
    privileged_software_exception = 5,  // INT1
    software_exception = 6,             // INT3, INTO
    other_event = 7,                    // VM entry only: a pending MTF VM exit, with vector 0
};

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

// clang-format off
// Guest interruptibility state (SDM 3C table 25-3).
namespace interruptibility {
inline constexpr std::uint32_t blocking_by_sti         = 1u << 0;
inline constexpr std::uint32_t blocking_by_mov_ss      = 1u << 1;
inline constexpr std::uint32_t blocking_by_smi         = 1u << 2;
inline constexpr std::uint32_t blocking_by_nmi         = 1u << 3;
inline constexpr std::uint32_t enclave_interruption    = 1u << 4;
inline constexpr std::uint32_t reserved_bits           = 0xffff'ffe0;
}  // namespace interruptibility

// Pending debug exceptions (SDM 3C table 25-4).
namespace pending_debug {
inline constexpr std::uint64_t breakpoint_conditions   = 0xf;         // B0-B3
inline constexpr std::uint64_t enabled_breakpoint      = 1ULL << 12;
inline constexpr std::uint64_t single_step             = 1ULL << 14;  // BS
inline constexpr std::uint64_t in_transaction          = 1ULL << 16;  // RTM
inline constexpr std::uint64_t reserved_bits           = ~(breakpoint_conditions | enabled_breakpoint | single_step | in_transaction);
}  // namespace pending_debug
// clang-format on

// Guest activity state (SDM 3C 25.4.2).
enum class ActivityState : std::uint32_t { active = 0, hlt = 1, shutdown = 2, wait_for_sipi = 3 };

}  // namespace flatback::vmx
