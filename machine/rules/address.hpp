// Addresses and paging structures, as the SDM has them. Whoever is judged has rules of its own.
#pragma once

#include <cstdint>

namespace flatback::machine::rules {

/// With linear addresses of 48 bits, bit 47 is repeated in all above it (SDM 1 3.3.7.1).
[[nodiscard]] constexpr bool is_canonical(std::uint64_t linear_address) {
    const std::uint64_t from_bit_47 = linear_address >> 47;
    return from_bit_47 == 0 || from_bit_47 == 0x1'FFFF;
}

/// No bit is set beyond the physical-address width (CPUID.80000008H:EAX[7:0]).
[[nodiscard]] constexpr bool within_width(std::uint64_t physical_address, unsigned width) {
    return physical_address < std::uint64_t{1} << width;
}

/// The entry of a table of `level`, 4 to 1, that an address selects: bits 47:39, 38:30, 29:21, 20:12 (SDM
/// 3A 4.5.4, SDM 3C 29.3.2).
[[nodiscard]] constexpr unsigned structure_index(std::uint64_t address, unsigned level) {
    constexpr std::uint64_t nine_bits = 0x1FF;
    switch (level) {
        case 4:
            return static_cast<unsigned>(address >> 39 & nine_bits);
        case 3:
            return static_cast<unsigned>(address >> 30 & nine_bits);
        case 2:
            return static_cast<unsigned>(address >> 21 & nine_bits);
        default:
            return static_cast<unsigned>(address >> 12 & nine_bits);
    }
}

/// The same of 32-bit paging, for levels 2 and 1: bits 31:22 and 21:12 (SDM 3A 4.3).
[[nodiscard]] constexpr unsigned structure_index_of_32_bits(std::uint64_t address, unsigned level) {
    return static_cast<unsigned>(address >> (level == 2 ? 22 : 12) & 0x3FF);
}

/// A PDPTE of PAE paging that MOV to CR and VM entry may load: if P is set, bits 2:1, 8:5 and all from the
/// physical-address width up are clear (SDM 3A table 4-8).
[[nodiscard]] constexpr bool is_loadable_pdpte(std::uint64_t pdpte, unsigned width) {
    if ((pdpte & 1) == 0) return true;
    constexpr std::uint64_t reserved = 1U << 1 | 1U << 2 | 1U << 5 | 1U << 6 | 1U << 7 | 1U << 8;
    return (pdpte & reserved) == 0 && within_width(pdpte, width);
}

}  // namespace flatback::machine::rules
