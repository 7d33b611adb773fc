// Whether the processor can go on behind a machine check that came while L0 ran, by what its registers say
// (SDM 3B 16.3). Touches no hardware.
#pragma once

#include <cstdint>
#include <span>

namespace flatback::metal {

namespace machine_check {
// IA32_MCG_STATUS.
inline constexpr std::uint64_t rip_is_good = 1U << 0;       // RIPV: what was interrupted can go on
inline constexpr std::uint64_t rip_is_the_cause = 1U << 1;  // EIPV: the error is of the instruction there
inline constexpr std::uint64_t in_progress = 1U << 2;       // MCIP
// IA32_MCG_CAP.
inline constexpr std::uint64_t bank_count_mask = 0xff;
inline constexpr std::uint64_t tells_of_recovery = 1U << 24;  // MCG_SER_P: S and AR have a meaning
// IA32_MCi_STATUS.
inline constexpr std::uint64_t bank_valid = 1ULL << 63;       // VAL
inline constexpr std::uint64_t uncorrected = 1ULL << 61;      // UC
inline constexpr std::uint64_t address_valid = 1ULL << 58;    // ADDRV
inline constexpr std::uint64_t context_corrupt = 1ULL << 57;  // PCC
inline constexpr std::uint64_t action_required = 1ULL << 55;  // AR

// banks: IA32_MCi_STATUS of each. False: L0's own state is lost, or may be.
[[nodiscard]] constexpr bool can_go_on(std::uint64_t global_status, std::uint64_t capability,
                                       std::span<const std::uint64_t> banks) {
    if ((global_status & rip_is_good) == 0) return false;
    for (const std::uint64_t bank : banks) {
        if ((bank & bank_valid) == 0) continue;
        if ((bank & context_corrupt) != 0) return false;
        // What L0's instruction took or fetched was wrong: it is executed again only once somebody has mended
        // that (16.6.3), and L0 cannot. Others, on which such an error is reported too, have EIPV = 0.
        const bool may_wait = (capability & tells_of_recovery) != 0 && (bank & action_required) == 0;
        if ((bank & uncorrected) != 0 && !may_wait && (global_status & rip_is_the_cause) != 0) return false;
    }
    return true;
}

}  // namespace machine_check

}  // namespace flatback::metal
