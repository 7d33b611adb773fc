#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "guests/linux/payload.hpp"
#include "interface/information_leaves.hpp"

// What the hypervisor below says of itself: CPUID leaves 0x40000000 to 0x40000004, signature
// "FlatbackFlat". Readable from user space.
namespace flatback::guests {

/// CPUID with EAX = leaf and ECX = subleaf. A plain function, so that tests can stand in for the CPU.
using CpuidFunction = CpuidResult (*)(std::uint32_t leaf, std::uint32_t subleaf);

[[nodiscard]] CpuidResult hardware_cpuid(std::uint32_t leaf, std::uint32_t subleaf);

struct L0Identity {
    /// "mapped", "single" or "off": how L0 emulates nested VPID.
    std::string_view mode;
    std::uint32_t version;
    bool shadow_vmcs;
    std::uint32_t tag_slots;
};

/// Nothing where the signature is absent: L1 runs on the bare machine, or on another hypervisor.
[[nodiscard]] std::optional<L0Identity> identify_l0(CpuidFunction cpuid);

using interface::Counter;
using interface::counter_count;

inline constexpr std::size_t exit_reason_count = 70;
inline constexpr std::size_t cpuid_exit_reason = 10;

struct L0Counters {
    std::array<std::uint64_t, counter_count> counters{};
    /// By basic exit reason: exits that L0 handled itself, and exits of L2 that it reflected to L1.
    std::array<std::uint64_t, exit_reason_count> handled{};
    std::array<std::uint64_t, exit_reason_count> reflected{};

    [[nodiscard]] std::uint64_t operator[](Counter which) const {
        return counters[static_cast<std::size_t>(which)];
    }

    L0Counters& operator+=(const L0Counters& other);
};

/// One counter of leaf 0x40000002.
[[nodiscard]] std::uint64_t read_l0_counter(CpuidFunction cpuid, Counter which);

[[nodiscard]] L0Counters read_l0_counters(CpuidFunction cpuid);

/// What happened between two readings, without the readings' own exits: each counter is read at the
/// same place of both sequences, so exactly one whole sequence of CPUID exits lies between its two
/// values, whichever counter it is.
[[nodiscard]] L0Counters difference(const L0Counters& before, const L0Counters& after);

/// The SDM's name of a basic exit reason (appendix C), in lower case with underscores; empty where the
/// number has none.
[[nodiscard]] std::string_view exit_reason_name(std::size_t reason);

}  // namespace flatback::guests
