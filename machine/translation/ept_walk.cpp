#include "machine/translation/ept_walk.hpp"

#include "machine/rules/address.hpp"
#include "x86/paging_bits.hpp"

namespace flatback::machine {

namespace {

constexpr std::uint64_t address_mask = 0x000F'FFFF'FFFF'F000;
constexpr std::uint64_t large_page = 1U << 7;
constexpr std::uint64_t accessed_flag = 1U << 8;
constexpr std::uint64_t dirty_flag = 1U << 9;

constexpr std::uint64_t bits(unsigned high, unsigned low) {
    return ((std::uint64_t{2} << high) - 1) & ~((std::uint64_t{1} << low) - 1);
}

constexpr std::uint64_t reserved_address_bits(unsigned physical_address_bits) {
    return physical_address_bits >= 52 ? 0 : bits(51, physical_address_bits);
}

}  // namespace

EptEntryKind classify_ept_entry(const EptContext& ept, unsigned physical_address_bits, unsigned level,
                                std::uint64_t entry) noexcept {
    if ((entry & ept_all_rights) == 0) return EptEntryKind::not_present;
    const bool readable = (entry & ept_read) != 0;
    if (!readable && (entry & ept_write) != 0) return EptEntryKind::misconfigured;
    if (!readable && !ept.execute_only_supported) return EptEntryKind::misconfigured;
    if ((entry & reserved_address_bits(physical_address_bits)) != 0) return EptEntryKind::misconfigured;

    const bool maps_page = level == 1 || ((entry & large_page) != 0 && level <= 3);
    if (!maps_page) {
        // Bits 7:3 of a PML4E, bits 6:3 of the others.
        const std::uint64_t reserved = level == 4 ? bits(7, 3) : bits(6, 3);
        return (entry & reserved) != 0 ? EptEntryKind::misconfigured : EptEntryKind::table;
    }
    if (level == 3 && (!ept.pages_of_1g_supported || (entry & bits(29, 12)) != 0)) {
        return EptEntryKind::misconfigured;
    }
    if (level == 2 && (entry & bits(20, 12)) != 0) return EptEntryKind::misconfigured;
    const std::uint64_t memory_type = (entry >> 3) & 7;
    if (memory_type == 2 || memory_type == 3 || memory_type == 7) return EptEntryKind::misconfigured;
    return EptEntryKind::page;
}

void walk_ept(const PhysicalMemory& memory, const EptContext& ept, unsigned physical_address_bits,
              std::uint64_t guest_physical, EptPosition start, EptWalk& walk) {
    walk.rights = 0;
    walk.dirty = false;
    walk.accessed = true;
    walk.reads = 0;
    walk.host_physical = 0;
    EptPosition position = start;
    while (true) {
        const std::uint64_t entry_address =
            position.table + 8 * rules::structure_index(guest_physical, position.level);
        const std::uint64_t entry = memory.read_structure(entry_address);
        walk.positions[walk.reads] = position;
        walk.entry_addresses[walk.reads] = entry_address;
        walk.entries[walk.reads] = entry;
        ++walk.reads;
        const auto rights = static_cast<EptRights>(position.rights & entry & ept_all_rights);
        walk.accessed = walk.accessed && (entry & accessed_flag) != 0;
        switch (classify_ept_entry(ept, physical_address_bits, position.level, entry)) {
            case EptEntryKind::not_present:
                walk.result = EptWalk::Result::not_present;
                return;
            case EptEntryKind::misconfigured:
                walk.result = EptWalk::Result::misconfigured;
                return;
            case EptEntryKind::page:
                walk.result = EptWalk::Result::translated;
                walk.size = static_cast<PageSize>(position.level - 1);
                walk.rights = rights;
                walk.dirty = (entry & dirty_flag) != 0;
                walk.host_physical =
                    page_base(entry & address_mask, walk.size) | page_offset(guest_physical, walk.size);
                return;
            case EptEntryKind::table:
                position = {entry & address_mask, position.level - 1, rights};
                break;
        }
    }
}

void set_ept_flags(PhysicalMemory& memory, const EptContext& ept, const EptWalk& walk, bool dirty) {
    if (!ept.accessed_and_dirty()) return;
    for (unsigned index = 0; index < walk.reads; ++index) {
        std::uint64_t flags = accessed_flag;
        if (dirty && index + 1 == walk.reads) flags |= dirty_flag;
        if ((walk.entries[index] & flags) == flags) continue;
        const std::uint64_t now = memory.read(walk.entry_addresses[index]);
        memory.write(walk.entry_addresses[index], now | flags);
    }
}

}  // namespace flatback::machine
