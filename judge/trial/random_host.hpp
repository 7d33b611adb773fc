#pragma once

#include <cstdint>

#include "nested/demands.hpp"

namespace flatback::machine {

/// What a host that is not to be foreseen does next: one sequence for each seed.
class RandomHost final {
public:
    explicit RandomHost(std::uint64_t seed) : state_(seed) {}

    /// True once in so many times.
    [[nodiscard]] bool once_in(std::uint64_t times) { return next() % times == 0; }
    [[nodiscard]] std::uint64_t below(std::uint64_t limit) { return next() % limit; }

    /// How far L1's time-stamp counter is ahead of the machine's, whatever else the host wants: a number of
    /// units of the VMX-preemption timer, which counts by the processor's own.
    static constexpr std::uint64_t tsc_offset = 0x12'3456'7890;
    /// How fast it goes where the host scales it; as a TSC multiplier (SDM 3C 25.6.5).
    static constexpr std::uint64_t tsc_rate = 2;
    static constexpr std::uint64_t tsc_multiplier = tsc_rate << 48;

    /// Of those that the machine has something for. NMIs where `may_take_nmis`.
    [[nodiscard]] nested::Demands demands(bool may_take_nmis) {
        nested::Demands wanted;
        wanted.tsc_offset = tsc_offset;
        if (once_in(4)) return wanted;
        wanted.external_interrupts = once_in(2);
        wanted.acknowledge_interrupts = wanted.external_interrupts && once_in(2);
        wanted.nmis = may_take_nmis && once_in(3);
        wanted.all_ports = once_in(2);
        const std::uint64_t drawn = next();
        wanted.instructions = static_cast<std::uint32_t>(drawn) &
                              static_cast<std::uint32_t>(next() | next()) & nested::demandable::instructions;
        wanted.secondary_instructions =
            static_cast<std::uint32_t>(drawn >> 32) &
            (vmx::secondary::wbinvd_exiting | vmx::secondary::descriptor_table_exiting);
        wanted.kept_msrs = once_in(3);
        if (once_in(3)) wanted.cr0_mask = next() & next();
        if (once_in(3)) wanted.cr4_mask = next() & next();
        if (once_in(2))
            wanted.exceptions = static_cast<std::uint32_t>(next()) & nested::demandable::exceptions;
        return wanted;
    }

private:
    // SplitMix64.
    std::uint64_t next() {
        state_ += 0x9E37'79B9'7F4A'7C15;
        std::uint64_t z = state_;
        z = (z ^ (z >> 30)) * 0xBF58'476D'1CE4'E5B9;
        z = (z ^ (z >> 27)) * 0x94D0'49BB'1331'11EB;
        return z ^ (z >> 31);
    }

    std::uint64_t state_;
};

}  // namespace flatback::machine
