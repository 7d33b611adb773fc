#pragma once

#include <cstdint>
#include <string>

namespace flatback::machine {

/// What may come of one access: a host-physical address, or the event that it meets.
struct Outcome {
    enum class Kind : std::uint8_t {
        translated,
        page_fault,            // #PF
        ept_violation,         // exit reason 48
        ept_misconfiguration,  // exit reason 49
    };

    Kind kind = Kind::translated;
    /// #PF: the error code (SDM 3A 4.7).
    std::uint32_t error_code = 0;
    /// `translated`: the host-physical address. EPT events: the guest-physical address.
    std::uint64_t physical = 0;
    /// EPT violation: the exit qualification (SDM 3C table 28-7).
    std::uint64_t exit_qualification = 0;

    [[nodiscard]] static constexpr Outcome translated(std::uint64_t host_physical) {
        return {Kind::translated, 0, host_physical, 0};
    }
    [[nodiscard]] static constexpr Outcome page_fault(std::uint32_t error_code) {
        return {Kind::page_fault, error_code, 0, 0};
    }
    [[nodiscard]] static constexpr Outcome ept_violation(std::uint64_t guest_physical,
                                                         std::uint64_t qualification) {
        return {Kind::ept_violation, 0, guest_physical, qualification};
    }
    [[nodiscard]] static constexpr Outcome ept_misconfiguration(std::uint64_t guest_physical) {
        return {Kind::ept_misconfiguration, 0, guest_physical, 0};
    }

    [[nodiscard]] constexpr bool is_translated() const { return kind == Kind::translated; }

    friend auto operator<=>(const Outcome&, const Outcome&) = default;
};

/// One line for a person: "host-physical 0x5000", "#PF error code 0x2", ...
[[nodiscard]] std::string describe(const Outcome& outcome);

/// Bits of an EPT violation's exit qualification (SDM 3C table 28-7).
namespace violation {
inline constexpr std::uint64_t data_read = 1U << 0;
inline constexpr std::uint64_t data_write = 1U << 1;
inline constexpr std::uint64_t instruction_fetch = 1U << 2;
inline constexpr unsigned rights_shift = 3;
inline constexpr std::uint64_t linear_address_valid = 1U << 7;
/// The access was to the translation of the linear address, not to a paging-structure entry.
inline constexpr std::uint64_t final_translation = 1U << 8;
// Given with "advanced VM-exit information for EPT violations" only, and only with `final_translation`.
inline constexpr std::uint64_t user_mode_address = 1U << 9;
inline constexpr std::uint64_t writable_address = 1U << 10;
inline constexpr std::uint64_t execute_disable_address = 1U << 11;
/// Set by the processor, not by a walk.
inline constexpr std::uint64_t nmi_unblocking_by_iret = 1U << 12;
}  // namespace violation

}  // namespace flatback::machine
