// Event types, interruptibility and activity state, pending debug exceptions. Layouts alone, which decide
// nothing.
#pragma once

#include <cstdint>

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

// clang-format off
// Guest interruptibility state (SDM 3C table 25-3).
namespace interruptibility {
inline constexpr std::uint32_t blocking_by_sti         = 1u << 0;
inline constexpr std::uint32_t blocking_by_mov_ss      = 1u << 1;
inline constexpr std::uint32_t blocking_by_smi         = 1u << 2;
inline constexpr std::uint32_t blocking_by_nmi         = 1u << 3;
inline constexpr std::uint32_t enclave_interruption    = 1u << 4;
}  // namespace interruptibility

// Pending debug exceptions (SDM 3C table 25-4).
namespace pending_debug {
inline constexpr std::uint64_t breakpoint_conditions   = 0xf;         // B0-B3
inline constexpr std::uint64_t enabled_breakpoint      = 1ULL << 12;
inline constexpr std::uint64_t single_step             = 1ULL << 14;  // BS
inline constexpr std::uint64_t in_transaction          = 1ULL << 16;  // RTM
}  // namespace pending_debug
// clang-format on

// Guest activity state (SDM 3C 25.4.2).
enum class ActivityState : std::uint32_t { active = 0, hlt = 1, shutdown = 2, wait_for_sipi = 3 };

}  // namespace flatback::vmx
