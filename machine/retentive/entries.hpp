#pragma once

#include <cstddef>
#include <cstdint>

#include "../translation/access.hpp"
#include "../translation/context.hpp"
#include "entry_store.hpp"

namespace flatback::machine::retentive {

/// The PCID part of the tag of global translations, which any PCID may use.
inline constexpr std::uint16_t global_pcid = 0x1000;

/// The tag of linear (ep4ta = `no_ep4ta`) and combined mappings.
struct LinearTag {
    std::uint16_t vpid = 0;
    std::uint16_t pcid = 0;  // or global_pcid
    std::uint64_t ep4ta = 0;

    friend bool operator==(const LinearTag&, const LinearTag&) = default;
};

struct LinearTagHash {
    std::size_t operator()(const LinearTag& tag) const noexcept {
        const std::uint64_t mixed =
            tag.ep4ta ^ (std::uint64_t{tag.vpid} << 44) ^ (std::uint64_t{tag.pcid} << 30);
        return static_cast<std::size_t>(mixed * 0x9E37'79B9'7F4A'7C15ULL >> 16);
    }
};

/// A whole translation: a linear or a combined mapping. Which page it maps is the key it is stored under.
struct PageEntry {
    std::uint64_t host_page = 0;
    std::uint64_t guest_page = 0;  // guest-physical, where EPT is in use
    GuestRights rights{};
    EptRights ept_rights = ept_all_rights;
    bool dirty = false;      // the paging-structure entry's D was set
    bool ept_dirty = false;  // ... the EPT entry's, or EPT keeps no dirty flags
    /// The size of the page that the paging structures map; larger than the entry's where EPT splits it.
    PageSize structure_size = PageSize::size_4k;
    bool half_of_4m = false;  // of a page of 32-bit paging, whose other half goes with it
    /// When the entry was made; not part of what it says.
    std::uint64_t made_at = 0;

    friend bool operator==(const PageEntry& a, const PageEntry& b) {
        return a.host_page == b.host_page && a.guest_page == b.guest_page && a.rights == b.rights &&
               a.ept_rights == b.ept_rights && a.dirty == b.dirty && a.ept_dirty == b.ept_dirty &&
               a.structure_size == b.structure_size && a.half_of_4m == b.half_of_4m;
    }
};

/// A paging-structure-cache entry: an upper prefix of the linear address to the next table.
struct StructureEntry {
    std::uint64_t table_host = 0;
    std::uint64_t table_guest = 0;  // guest-physical, where EPT is in use
    GuestRights rights{};
    /// What EPT granted for the table's page: flags in its entries are set by writes to guest-physical
    /// memory.
    EptRights table_rights = ept_all_rights;
    std::uint64_t made_at = 0;

    friend bool operator==(const StructureEntry& a, const StructureEntry& b) {
        return a.table_host == b.table_host && a.table_guest == b.table_guest && a.rights == b.rights &&
               a.table_rights == b.table_rights;
    }
};

/// A whole guest-physical mapping.
struct GuestPhysicalEntry {
    std::uint64_t host_page = 0;
    EptRights rights = 0;
    bool dirty = false;  // D was set, or EPT keeps no dirty flags
    std::uint64_t made_at = 0;

    friend bool operator==(const GuestPhysicalEntry& a, const GuestPhysicalEntry& b) {
        return a.host_page == b.host_page && a.rights == b.rights && a.dirty == b.dirty;
    }
};

/// An EPT paging-structure-cache entry.
struct EptStructureEntry {
    std::uint64_t table = 0;
    EptRights rights = 0;
    std::uint64_t made_at = 0;

    friend bool operator==(const EptStructureEntry& a, const EptStructureEntry& b) {
        return a.table == b.table && a.rights == b.rights;
    }
};

/// Keys. Linear addresses are canonical with 48 bits, so the upper 16 say nothing.
[[nodiscard]] constexpr std::uint64_t page_key(std::uint64_t address, PageSize size) {
    return ((address & 0x0000'FFFF'FFFF'FFFF) >> page_shift(size)) << 2 | static_cast<std::uint64_t>(size);
}
/// `level`: of the entry cached, 4 (PML4E) to 2 (PDE).
[[nodiscard]] constexpr std::uint64_t structure_key(std::uint64_t address, unsigned level) {
    return ((address & 0x0000'FFFF'FFFF'FFFF) >> (3 + 9 * level)) << 3 | level;
}

/// The same of an entry of a page directory of 32-bit paging, which covers 4 MBytes: a level that no other
/// has.
[[nodiscard]] constexpr std::uint64_t directory_key_of_32_bits(std::uint64_t address) {
    return (address & 0xFFFF'FFFF) >> 22 << 3 | 1;
}
[[nodiscard]] inline std::uint64_t structure_key(const TranslationContext& context, std::uint64_t address,
                                                 unsigned level) {
    return context.mode == PagingMode::bits_32 ? directory_key_of_32_bits(address)
                                               : structure_key(address, level);
}

/// Everything cached under one tag.
struct LinearBucket {
    EntryStore<PageEntry> pages;
    EntryStore<StructureEntry> structures;
    /// Entries smaller than the page that the paging structures map have been put here.
    bool split = false;

    [[nodiscard]] std::size_t size() const noexcept { return pages.size() + structures.size(); }
};

struct GuestPhysicalBucket {
    EntryStore<GuestPhysicalEntry> pages;
    EntryStore<EptStructureEntry> structures;

    [[nodiscard]] std::size_t size() const noexcept { return pages.size() + structures.size(); }
};

}  // namespace flatback::machine::retentive
