// Extended page tables: entries (SDM 3C 29.3.2), the EPTP (SDM 3C 25.6.11) and misconfigurations (SDM
// 3C 29.3.3.1).
#pragma once

#include <cstdint>

#include "../x86/address.hpp"
#include "../x86/msr.hpp"
#include "../x86/paging.hpp"
#include "capability.hpp"

namespace flatback::vmx {

// Bits of an EPT entry.
namespace ept_entry {
// clang-format off
inline constexpr std::uint64_t read                 = 1ULL << 0;
inline constexpr std::uint64_t write                = 1ULL << 1;
inline constexpr std::uint64_t execute              = 1ULL << 2;   // supervisor-mode with mode-based execute control
inline constexpr std::uint64_t permissions          = read | write | execute;
inline constexpr unsigned      memory_type_shift    = 3;           // leaf, 3 bits
inline constexpr std::uint64_t memory_type_mask     = 7ULL << memory_type_shift;
inline constexpr std::uint64_t ignore_pat           = 1ULL << 6;   // leaf
inline constexpr std::uint64_t page_size            = 1ULL << 7;   // PDPTE or PDE: it maps a page
inline constexpr std::uint64_t accessed             = 1ULL << 8;   // EPTP bit 6 = 1, else ignored
inline constexpr std::uint64_t dirty                = 1ULL << 9;   // leaf, EPTP bit 6 = 1, else ignored
inline constexpr std::uint64_t user_execute         = 1ULL << 10;  // mode-based execute control, else ignored
inline constexpr std::uint64_t suppress_ve          = 1ULL << 63;  // leaf, "EPT-violation #VE", else ignored
inline constexpr std::uint64_t address_mask         = 0x000f'ffff'ffff'f000;
// clang-format on

// Present: one of bits 2:0 is 1 (SDM 3C 29.3.2, without mode-based execute control).
[[nodiscard]] constexpr bool is_present(std::uint64_t entry) {
    return (entry & permissions) != 0;
}

// Does a present entry of this level (4 = EPT PML4E ... 1 = EPT PTE) map a page?
[[nodiscard]] constexpr bool is_leaf(std::uint64_t entry, unsigned level) {
    return level == 1 || (level <= 3 && (entry & page_size) != 0);
}

[[nodiscard]] constexpr std::uint64_t memory_type(x86::MemoryType type) {
    return static_cast<std::uint64_t>(type) << memory_type_shift;
}
[[nodiscard]] constexpr x86::MemoryType memory_type_of(std::uint64_t entry) {
    return static_cast<x86::MemoryType>(entry >> memory_type_shift & 7);
}
// What a leaf of this level maps, or a table at level 1's size.
[[nodiscard]] constexpr std::uint64_t page_address(std::uint64_t entry, unsigned level) {
    return entry & address_mask & ~(x86::bytes_per_entry(level) - 1);
}
[[nodiscard]] constexpr std::uint64_t table_address(std::uint64_t entry) {
    return entry & address_mask;
}

}  // namespace ept_entry

// UC, WC, WT, WP, WB.
[[nodiscard]] constexpr bool is_valid_ept_memory_type(std::uint64_t type) {
    constexpr unsigned valid = 1u << 0 | 1u << 1 | 1u << 4 | 1u << 5 | 1u << 6;
    return type < 8 && (valid >> type & 1) != 0;
}

// An entry that is present but says what it may not. Level 4 = EPT PML4E ... 1 = EPT PTE. A walk that meets
// such an entry ends in an EPT misconfiguration; one that is not present is an EPT violation instead.
[[nodiscard]] constexpr bool is_ept_misconfigured(std::uint64_t entry, unsigned level,
                                                  EptVpidCapability capability,
                                                  unsigned physical_address_width) {
    using namespace ept_entry;
    if (!is_present(entry)) return false;
    if ((entry & (read | write)) == write) return true;
    if ((entry & (read | execute)) == execute && !capability.has(EptVpidCapability::execute_only))
        return true;
    if (!x86::fits_physical_width(entry & address_mask, physical_address_width)) return true;

    if (!is_leaf(entry, level)) {
        // Bits 6:3, and bit 7 of a PML4E, which is_leaf does not take for a page size.
        return (entry & (memory_type_mask | ignore_pat | page_size)) != 0;
    }
    if (level == 2 && !capability.has(EptVpidCapability::page_2m)) return true;
    if (level == 3 && !capability.has(EptVpidCapability::page_1g)) return true;
    if ((entry & address_mask & (x86::bytes_per_entry(level) - 1)) != 0) return true;
    return !is_valid_ept_memory_type(entry >> memory_type_shift & 7);
}

// The extended-page-table pointer.
struct Eptp {
    std::uint64_t value = 0;

    static constexpr std::uint64_t memory_type_mask = 7;
    static constexpr unsigned walk_length_shift = 3;
    static constexpr std::uint64_t accessed_dirty_bit = 1ULL << 6;
    static constexpr std::uint64_t shadow_stack_bit = 1ULL << 7;

    [[nodiscard]] constexpr x86::MemoryType memory_type() const {
        return static_cast<x86::MemoryType>(value & memory_type_mask);
    }
    // The number of levels, 4 for every EPTP that is valid here.
    [[nodiscard]] constexpr unsigned walk_length() const {
        return static_cast<unsigned>(value >> walk_length_shift & 7) + 1;
    }
    [[nodiscard]] constexpr bool enables_accessed_dirty() const { return (value & accessed_dirty_bit) != 0; }
    [[nodiscard]] constexpr std::uint64_t root() const { return value & ept_entry::address_mask; }
    // EPTP bits 51:12, the tag of guest-physical and combined mappings: two EPTPs that differ elsewhere share
    // it.
    [[nodiscard]] constexpr std::uint64_t ep4ta() const { return root() >> 12; }

    // root: a 4 KB-aligned physical address; levels: 4 or 5.
    [[nodiscard]] static constexpr Eptp make(std::uint64_t root, x86::MemoryType type, bool accessed_dirty,
                                             unsigned levels = 4) {
        return {root | std::uint64_t{levels - 1} << walk_length_shift | static_cast<std::uint64_t>(type) |
                (accessed_dirty ? accessed_dirty_bit : 0)};
    }

    // What VM entry and INVEPT demand of an EPTP (SDM 3C 27.2.1.1).
    [[nodiscard]] constexpr bool is_valid(EptVpidCapability capability,
                                          unsigned physical_address_width) const {
        const std::uint64_t type = value & memory_type_mask;
        const bool type_supported = (type == 0 && capability.has(EptVpidCapability::uncacheable)) ||
                                    (type == 6 && capability.has(EptVpidCapability::write_back));
        if (!type_supported) return false;
        if (walk_length() != 4 || !capability.has(EptVpidCapability::walk_length_4)) return false;
        if (enables_accessed_dirty() && !capability.has(EptVpidCapability::accessed_dirty)) return false;
        if ((value & shadow_stack_bit) != 0 && !capability.has(EptVpidCapability::supervisor_shadow_stack)) {
            return false;
        }
        return (value & 0xf00) == 0 && x86::fits_physical_width(value, physical_address_width);
    }

    friend constexpr bool operator==(Eptp, Eptp) = default;
};

}  // namespace flatback::vmx
