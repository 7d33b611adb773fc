// Four-level paging: entry bits, page sizes and indices (SDM 3A 4.5), and the PDPTEs of PAE paging (SDM
// 3A 4.4).
#pragma once

#include <cstdint>

#include "address.hpp"

namespace flatback::x86 {

inline constexpr std::uint64_t page_size_4k = 0x1000;
inline constexpr std::uint64_t page_size_2m = 0x20'0000;
inline constexpr std::uint64_t page_size_1g = 0x4000'0000;
inline constexpr unsigned entries_per_table = 512;

// The levels of the walk: 4 is the PML4, 1 the page table.
inline constexpr unsigned paging_levels = 4;

// Bits of a paging-structure entry (SDM 3A tables 4-15 to 4-20).
namespace page_entry {
// clang-format off
inline constexpr std::uint64_t present          = 1ULL << 0;
inline constexpr std::uint64_t writable         = 1ULL << 1;
inline constexpr std::uint64_t user             = 1ULL << 2;
inline constexpr std::uint64_t write_through    = 1ULL << 3;
inline constexpr std::uint64_t cache_disable    = 1ULL << 4;
inline constexpr std::uint64_t accessed         = 1ULL << 5;
inline constexpr std::uint64_t dirty            = 1ULL << 6;   // in an entry that maps a page
inline constexpr std::uint64_t page_size        = 1ULL << 7;   // in a PDE or PDPTE: it maps a page
inline constexpr std::uint64_t pat_4k           = 1ULL << 7;   // in a PTE
inline constexpr std::uint64_t global           = 1ULL << 8;   // in an entry that maps a page
inline constexpr std::uint64_t pat_large        = 1ULL << 12;  // in a PDE or PDPTE that maps a page
inline constexpr std::uint64_t execute_disable  = 1ULL << 63;  // IA32_EFER.NXE = 1, else reserved
inline constexpr std::uint64_t address_mask     = 0x000f'ffff'ffff'f000;
inline constexpr std::uint64_t address_mask_2m  = 0x000f'ffff'ffe0'0000;
inline constexpr std::uint64_t address_mask_1g  = 0x000f'ffff'c000'0000;
// clang-format on
}  // namespace page_entry

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

// CR3 (SDM 3A tables 4-12 and 4-13).
namespace cr3 {
// clang-format off
inline constexpr std::uint64_t pcid_mask     = 0xfff;               // CR4.PCIDE = 1
inline constexpr std::uint64_t address_mask  = 0x000f'ffff'ffff'f000;
inline constexpr std::uint64_t no_flush      = 1ULL << 63;          // in a MOV's operand, CR4.PCIDE = 1; never stored
// clang-format on
}  // namespace cr3

// Page-fault error code (SDM 3A 4.7).
namespace page_fault {
// clang-format off
inline constexpr std::uint32_t present            = 1u << 0;
inline constexpr std::uint32_t write              = 1u << 1;
inline constexpr std::uint32_t user               = 1u << 2;
inline constexpr std::uint32_t reserved_bit       = 1u << 3;
inline constexpr std::uint32_t instruction_fetch  = 1u << 4;
inline constexpr std::uint32_t protection_key     = 1u << 5;
// clang-format on
}  // namespace page_fault

}  // namespace flatback::x86
