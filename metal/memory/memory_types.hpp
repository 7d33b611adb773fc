// The memory type of physical addresses by the MTRRs (SDM 3A 12.11).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "x86/msr.hpp"

namespace flatback::metal {

// A copy of the MTRRs and the rules by which they combine. Plain data: filled by read_memory_types() on the
// machine, by hand in tests. All zero: every address is uncacheable, as after reset.
class MemoryTypes {
public:
    static constexpr std::size_t most_variable = 32;
    static constexpr std::uint64_t enabled = 1 << 11;        // in IA32_MTRR_DEF_TYPE
    static constexpr std::uint64_t fixed_enabled = 1 << 10;  // in IA32_MTRR_DEF_TYPE
    static constexpr std::uint64_t valid = 1 << 11;          // in a variable mask

    struct Variable {
        std::uint64_t base = 0;  // IA32_MTRR_PHYSBASEn
        std::uint64_t mask = 0;  // IA32_MTRR_PHYSMASKn
    };

    std::uint64_t default_type = 0;  // IA32_MTRR_DEF_TYPE
    std::array<std::uint64_t, 11>
        fixed{};  // FIX64K_00000, FIX16K_80000, FIX16K_A0000, FIX4K_C0000 to FIX4K_F8000
    std::array<Variable, most_variable> variable{};
    unsigned physical_address_width = 36;

    // The one type of all bytes of [address, address + size), or absent where they may differ. size: a power
    // of two of at least 4 KB; address: aligned to it. A 4 KB page always has one type.
    [[nodiscard]] std::optional<x86::MemoryType> type_of(std::uint64_t address, std::uint64_t size) const;

private:
    [[nodiscard]] x86::MemoryType fixed_type(std::uint64_t address) const;
};

}  // namespace flatback::metal
