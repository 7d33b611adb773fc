// Four-level paging (SDM 3A 4.5), and the PDPTEs of PAE paging (SDM 3A 4.4).
#pragma once

#include <cstdint>

#include "address.hpp"
#include "paging_bits.hpp"

namespace flatback::x86 {

// Bits 2:1 and 8:5 of a PDPTE of PAE paging are reserved, and every bit from the physical-address width up
// (SDM 3A table 4-8). A PDPTE that is not present has no reserved bit.
[[nodiscard]] constexpr bool is_valid_pae_pdpte(std::uint64_t pdpte, unsigned physical_address_width) {
    if ((pdpte & page_entry::present) == 0) return true;
    return (pdpte & 0x1e6) == 0 && fits_physical_width(pdpte, physical_address_width);
}

// Bytes mapped by one entry of a table of this level: 4 KB at level 1, 2 MB at 2, 1 GB at 3, 512 GB at 4.
[[nodiscard]] constexpr std::uint64_t bytes_per_entry(unsigned level) {
    return page_size_4k << (9 * (level - 1));
}

// The entry of the table of this level (1 to 4) that an address selects; for EPT too.
[[nodiscard]] constexpr unsigned table_index(std::uint64_t address, unsigned level) {
    return static_cast<unsigned>(address >> (12 + 9 * (level - 1))) & (entries_per_table - 1);
}
template <typename Space>
[[nodiscard]] constexpr unsigned table_index(Address<Space> address, unsigned level) {
    return table_index(address.value(), level);
}

}  // namespace flatback::x86
