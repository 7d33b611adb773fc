#include "machine/geometric/walk_memory.hpp"

#include "machine/rules/address.hpp"
#include "x86/paging_bits.hpp"

namespace flatback::machine::geometric {

namespace {

constexpr std::uint64_t address_bits = 0x0000'FFFF'FFFF'FFFF;
constexpr unsigned region_shift = 21;
constexpr std::uint64_t ept_accessed = 1U << 8;
constexpr std::uint64_t ept_dirty = 1U << 9;

/// `as_write`: the access counts as one, so that the dirty flag is set too.
EptRead read_of(const EptWalk& walk, const EptContext& ept, bool as_write) {
    EptRead read;
    read.size = walk.size;
    read.rights = walk.rights;
    read.translated = walk.result == EptWalk::Result::translated;
    read.dirty = walk.dirty;
    read.flags_set = !ept.accessed_and_dirty() || (walk.accessed && (walk.dirty || !as_write));
    read.reads = walk.reads;
    read.host_physical = walk.host_physical;
    return read;
}

}  // namespace

void WalkMemory::walk(PhysicalMemory& memory, const TranslationContext& context, std::uint64_t linear_address,
                      Access access, Walked& walked) {
    if (memory_ != &memory) {
        memory_ = &memory;
        ways_ = {};
        ept_ways_ = {};
    }
    if (recall(memory, context, linear_address, access, walked)) return;
    walk_pages(memory, context, linear_address, access, walk_);
    walked.outcome = walk_.outcome;
    walked.mapping = walk_.mapping;
    walked.reads = walk_.reads;
    walked.final_ept_walked = walk_.final_ept_walked;
    walked.tables = &tables_;
    for (unsigned step = 0; step < walk_.reads; ++step) {
        tables_[step].address = walk_.steps[step].table;
        if (context.ept_in_use) tables_[step].ept = read_of(walk_.steps[step].ept, context.ept, true);
    }
    if (walk_.final_ept_walked) walked.final_ept = read_of(walk_.final_ept, context.ept, false);
    if (!walk_.outcome.is_translated()) return;
    set_page_flags(memory, context, walk_, access);
    remember(memory, context, linear_address);
}

void WalkMemory::use(const TranslationContext& context) {
    for (const Known& known : known_) {
        if (known.number != 0 && known.context == context) {
            number_ = known.number;
            return;
        }
    }
    number_ = ++last_number_;
    known_[next_known_] = {context, number_};
    next_known_ = (next_known_ + 1) % contexts_kept;
}

bool WalkMemory::recall(const PhysicalMemory& memory, const TranslationContext& context,
                        std::uint64_t linear_address, Access access, Walked& walked) {
    if (!context.paging) return false;
    const std::uint64_t region = (linear_address & address_bits) >> region_shift;
    const Way& way = ways_[region % ways_kept];
    if (way.region != region || way.version != memory.structure_version() || way.context != number_) {
        return false;
    }
    const std::uint64_t entry =
        memory.read_structure(way.table_host + 8 * std::uint64_t{rules::structure_index(linear_address, 1)});
    if (classify_page_entry(context, 1, entry) != PageEntryKind::page) return false;
    const bool write = access.kind == AccessKind::write;
    const std::uint64_t flags = x86::page_entry::accessed | (write ? x86::page_entry::dirty : 0);
    if ((entry & flags) != flags) return false;
    const PageMapping mapping = page_mapping(context, 1, entry, way.rights, linear_address);
    if (!permits(context, mapping.rights, access)) return false;
    walked.mapping.physical = mapping.physical;
    walked.mapping.size = mapping.size;
    walked.mapping.rights.writable = mapping.rights.writable;
    walked.mapping.rights.user = mapping.rights.user;
    walked.mapping.rights.execute_disable = mapping.rights.execute_disable;
    walked.mapping.global = mapping.global;
    walked.mapping.dirty = mapping.dirty;
    walked.mapping.half_of_4m = false;
    walked.final_ept_walked = context.ept_in_use;
    if (context.ept_in_use) {
        EptRead& read = walked.final_ept;
        if (!recall_ept(memory, context, mapping.physical, read)) return false;
        if ((read.rights & needed_rights(access.kind)) == 0) return false;
        if (context.ept.accessed_and_dirty() && write && !read.dirty) return false;
        walked.outcome = Outcome::translated(read.host_physical);
    } else {
        walked.outcome = Outcome::translated(mapping.physical);
    }
    walked.reads = 4;
    walked.tables = &way.tables;
    return true;
}

bool WalkMemory::recall_ept(const PhysicalMemory& memory, const TranslationContext& context,
                            std::uint64_t guest_physical, EptRead& read) {
    const std::uint64_t region = guest_physical >> region_shift;
    const EptWay& way = ept_ways_[region % ways_kept];
    if (way.region != region || way.version != memory.structure_version() || way.context != number_) {
        return false;
    }
    read = way.read;
    if (way.large) {
        read.host_physical = way.host | page_offset(guest_physical, read.size);
        return true;
    }
    const std::uint64_t entry =
        memory.read_structure(way.host + 8 * std::uint64_t{rules::structure_index(guest_physical, 1)});
    if (classify_ept_entry(context.ept, context.physical_address_bits, 1, entry) != EptEntryKind::page) {
        return false;
    }
    if (context.ept.accessed_and_dirty() && (entry & ept_accessed) == 0) return false;
    read.rights = static_cast<EptRights>(way.read.rights & entry & ept_all_rights);
    read.dirty = (entry & ept_dirty) != 0;
    read.host_physical =
        (entry & x86::page_entry::address_mask) | page_offset(guest_physical, PageSize::size_4k);
    return true;
}

/// walk_ has translated, and its flags are set now; those that it found set are what is known.
void WalkMemory::remember(const PhysicalMemory& memory, const TranslationContext& context,
                          std::uint64_t linear_address) {
    if (!context.paging) return;
    if (context.ept_in_use) remember_ept(memory, context);
    if (walk_.reads != 4 || !walk_.accessed) return;
    const std::uint64_t region = (linear_address & address_bits) >> region_shift;
    Way& way = ways_[region % ways_kept];
    for (unsigned step = 0; step < 4; ++step) {
        way.tables[step].address = walk_.steps[step].table;
        if (!context.ept_in_use) continue;
        way.tables[step].ept = read_of(walk_.steps[step].ept, context.ept, true);
        if (!way.tables[step].ept.flags_set) {
            way.region = ~std::uint64_t{0};
            return;
        }
    }
    way.region = region;
    way.version = memory.structure_version();
    way.context = number_;
    way.table_host = walk_.steps[3].position.table_host;
    way.rights = walk_.steps[3].position.rights;
}

void WalkMemory::remember_ept(const PhysicalMemory& memory, const TranslationContext& context) {
    const EptWalk& walk = walk_.final_ept;
    const bool keeps_flags = context.ept.accessed_and_dirty();
    if (keeps_flags && !walk.accessed) return;
    const std::uint64_t region = walk_.mapping.physical >> region_shift;
    EptWay& way = ept_ways_[region % ways_kept];
    way.region = region;
    way.version = memory.structure_version();
    way.context = number_;
    way.read = read_of(walk, context.ept, false);
    way.large = walk.size != PageSize::size_4k;
    if (way.large) {
        way.host = page_base(walk.host_physical, walk.size);
    } else {
        way.host = walk.positions[walk.reads - 1].table;
        way.read.rights = walk.positions[walk.reads - 1].rights;
    }
}

}  // namespace flatback::machine::geometric
