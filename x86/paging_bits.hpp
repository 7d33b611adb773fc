// Four-level paging: entry bits, page sizes and indices (SDM 3A 4.5). Layouts alone, which decide nothing.
#pragma once

#include <cstdint>

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
