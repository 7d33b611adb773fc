#pragma once

#include <cstdint>

#include "layout.hpp"
#include "scenario.hpp"

namespace flatback::machine::legacy_paging {

// PAE and 32-bit paging for the L2s of programs, beside the 4-level structures of a hierarchy: the last pages
// of its space. Of linear addresses they map the gigabyte at 40000000H, or what is told of it.

inline constexpr std::uint64_t first_address = 0x4000'0000;

/// The page-directory-pointer table of PAE paging.
[[nodiscard]] constexpr std::uint64_t pdpt(std::uint64_t hierarchy) {
    return layout::page_root(hierarchy) + layout::hierarchy_bytes - x86::page_size_4k;
}
/// The page directory of 32-bit paging, and its first page table.
[[nodiscard]] constexpr std::uint64_t directory(std::uint64_t hierarchy) {
    return pdpt(hierarchy) - x86::page_size_4k;
}
[[nodiscard]] constexpr std::uint64_t table(std::uint64_t hierarchy) {
    return pdpt(hierarchy) - 2 * x86::page_size_4k;
}
/// The PDPTE of that gigabyte: the page directory that the hierarchy has for it, where `map` was told of it
/// before all else there.
[[nodiscard]] constexpr std::uint64_t pdpte(std::uint64_t hierarchy) {
    return (layout::page_root(hierarchy) + 2 * x86::page_size_4k) | 1;
}

inline void put_pae(Scenario& say, std::uint64_t hierarchy) {
    say.edit().poke(pdpt(hierarchy) + 8, pdpte(hierarchy));
}

/// The first two pages of 4 KBytes, and behind them from 40400000H one of 4 MBytes.
inline void put_32_bits(Scenario& say, std::uint64_t hierarchy, std::uint64_t first, std::uint64_t second,
                        std::uint64_t large = layout::data_page(0)) {
    say.edit().poke(directory(hierarchy) + 0x400, (table(hierarchy) | 7) | (large | 0x87) << 32);
    say.poke(table(hierarchy), (first | 7) | (second | 7) << 32);
}

}  // namespace flatback::machine::legacy_paging
