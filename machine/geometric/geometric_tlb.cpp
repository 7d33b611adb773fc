#include "machine/geometric/geometric_tlb.hpp"

#include <algorithm>
#include <bit>

namespace flatback::machine {

using geometric::ept_number_of;
using geometric::make_tag;
using geometric::pcid_of;
using geometric::vpid_of;

namespace {

constexpr std::uint64_t address_bits = 0x0000'FFFF'FFFF'FFFF;

constexpr std::uint64_t page_number(std::uint64_t address, PageSize size) {
    return (address & address_bits) >> page_shift(size);
}
constexpr std::uint64_t key_of(std::uint64_t number, PageSize size) {
    return number << 2 | static_cast<std::uint64_t>(size);
}
constexpr PageSize size_of(std::uint64_t key) {
    return static_cast<PageSize>(key & 3);
}
/// The prefix of an address that an entry of `level` covers.
constexpr std::uint64_t prefix_of(std::uint64_t address, unsigned level) {
    return (address & address_bits) >> (3 + 9 * level);
}

/// In the place of a size of the structures' page: 4 MBytes, of 32-bit paging.
constexpr unsigned halves_of_4m = 3;

constexpr std::array all_sizes = {PageSize::size_4k, PageSize::size_2m, PageSize::size_1g};

}  // namespace

TlbCounters& TlbCounters::operator+=(const TlbCounters& other) {
    accesses += other.accesses;
    first_level_misses += other.first_level_misses;
    misses += other.misses;
    walk_references += other.walk_references;
    cycles += other.cycles;
    return *this;
}

TlbCounters operator-(TlbCounters a, const TlbCounters& b) {
    a.accesses -= b.accesses;
    a.first_level_misses -= b.first_level_misses;
    a.misses -= b.misses;
    a.walk_references -= b.walk_references;
    a.cycles -= b.cycles;
    return a;
}

GeometricTlb::GeometricTlb(const TlbGeometry& geometry)
    : geometry_(geometry),
      second_(geometry.second),
      second_1g_(geometry.second_1g),
      guest_physical_(geometry.guest_physical) {
    for (std::size_t index = 0; index < 3; ++index) {
        data_[index] = Pages(geometry.data[index]);
        instruction_[index] = Pages(geometry.instruction[index]);
        structures_[index] = Structures(geometry.structures[index]);
        ept_structures_[index] = Structures(geometry.structures[index]);
    }
    use_context(context_);
}

std::uint64_t GeometricTlb::ept_number(std::uint64_t ep4ta) {
    const auto found = std::ranges::find(ep4tas_, ep4ta);
    if (found != ep4tas_.end()) return static_cast<std::uint64_t>(found - ep4tas_.begin()) + 1;
    ep4tas_.push_back(ep4ta);
    return ep4tas_.size();
}

void GeometricTlb::use_context(const TranslationContext& context) {
    context_ = context;
    walks_.use(context);
    const std::uint64_t ept = context.ept_in_use ? ept_number(context.ept.ep4ta()) : 0;
    tag_ = make_tag(context.vpid, context.pcid, ept);
    global_tag_ = make_tag(context.vpid, geometric::global_pcid, ept);
}

bool GeometricTlb::serves(const Translation& translation, const TranslationContext& context,
                          Access access) const noexcept {
    if (access.kind == AccessKind::write && translation.writable_now == 0) return false;
    const GuestRights rights = {translation.writable != 0, translation.user != 0,
                                translation.execute_disable != 0};
    return permits(context, rights, access) && (translation.ept_rights & needed_rights(access.kind)) != 0;
}

Outcome GeometricTlb::access(PhysicalMemory& memory, const TranslationContext& context,
                             std::uint64_t linear_address, Access access) {
    if (!(context == context_)) use_context(context);
    ++counters_.accesses;
    second_.expect(page_number(linear_address, PageSize::size_4k));
    auto& first = access.kind == AccessKind::fetch ? instruction_ : data_;
    bool absent = true;
    for (unsigned held = sizes_held_; held != 0; held &= held - 1) {
        const auto index = static_cast<std::size_t>(std::countr_zero(held));
        const PageSize size = all_sizes[index];
        const std::uint64_t number = page_number(linear_address, size);
        const Pages::Entry* const entry =
            first[index].find(number, {key_of(number, size), tag_, global_tag_});
        if (entry == nullptr) continue;
        absent = false;
        if (!serves(entry->payload, context, access)) break;
        return Outcome::translated(entry->payload.host_frame << 12 | page_offset(linear_address, size));
    }
    ++counters_.first_level_misses;
    for (unsigned held = sizes_held_; held != 0; held &= held - 1) {
        const auto index = static_cast<std::size_t>(std::countr_zero(held));
        const PageSize size = all_sizes[index];
        Pages& second = geometry_.second_ways[index] != 0 ? second_ : second_1g_;
        if (geometry_.second_ways[index] == 0 && size != PageSize::size_1g) continue;
        const std::uint64_t number = page_number(linear_address, size);
        const Pages::Entry* const entry = second.find(number, {key_of(number, size), tag_, global_tag_});
        if (entry == nullptr) continue;
        if (!serves(entry->payload, context, access)) {
            absent = false;
            break;
        }
        counters_.cycles += geometry_.second_level_cycles;
        const geometric::Name name{entry->key, entry->tag, entry->tag};
        if (absent) {
            first[index].insert_new(number, name, entry->payload);
        } else {
            first[index].insert(number, name, entry->payload);
        }
        return Outcome::translated(entry->payload.host_frame << 12 | page_offset(linear_address, size));
    }
    return walk(memory, context, linear_address, access, absent);
}

/// `absent`: no level has an entry for the address.
Outcome GeometricTlb::walk(PhysicalMemory& memory, const TranslationContext& context,
                           std::uint64_t linear_address, Access access, bool absent) {
    ++counters_.misses;
    walks_.walk(memory, context, linear_address, access, walk_);
    const unsigned references = count_references(linear_address, walk_);
    counters_.walk_references += references;
    counters_.cycles += references * std::uint64_t{geometry_.walk_reference_cycles};
    const Outcome outcome = walk_.outcome;
    switch (outcome.kind) {
        case Outcome::Kind::translated:
            keep(linear_address, access, walk_, absent);
            break;
        case Outcome::Kind::page_fault:
            invalidate(invalidation::page_fault(context.vpid, context.pcid, linear_address));
            break;
        case Outcome::Kind::ept_violation:
            invalidate(invalidation::ept_violation(context.ept.ep4ta(), outcome.physical, context.vpid,
                                                   context.pcid, linear_address));
            break;
        case Outcome::Kind::ept_misconfiguration:
            break;
    }
    return outcome;
}

/// The entries that a processor would read: from the lowest cached structure down; in two dimensions with an
/// EPT walk for each table that is not reached from a combined entry, and one for the page.
unsigned GeometricTlb::count_references(std::uint64_t linear_address, const geometric::Walked& walk) {
    const bool ept_in_use = context_.ept_in_use;
    unsigned references = 0;
    unsigned first_step = 0;
    const unsigned top = context_.top_level();
    for (unsigned level = 2; level <= top && first_step == 0; ++level) {
        const std::uint64_t prefix = prefix_of(linear_address, level);
        // An entry of `level` leads to the table of the level below. (One of a directory of 32-bit paging is
        // kept as one of 2 MBytes.)
        if (structures_[level - 2].find(prefix, {prefix, tag_, tag_}) != nullptr)
            first_step = top + 1 - level;
    }
    for (unsigned step = first_step; step < walk.reads; ++step) {
        ++references;
        if (ept_in_use && (step != first_step || first_step == 0)) {
            references += count_ept_references((*walk.tables)[step].address, (*walk.tables)[step].ept);
        }
        if (step + 1 < walk.reads) {
            const unsigned level = top - step;
            const std::uint64_t prefix = prefix_of(linear_address, level);
            structures_[level - 2].insert(prefix, {prefix, tag_, tag_}, {});
        }
    }
    if (ept_in_use && walk.final_ept_walked) {
        references += count_ept_references(walk.mapping.physical, walk.final_ept);
    }
    return references;
}

unsigned GeometricTlb::count_ept_references(std::uint64_t guest_physical, const geometric::EptRead& read) {
    const Tag tag = make_tag(0, 0, ept_number_of(tag_));
    const std::uint64_t number = page_number(guest_physical, read.size);
    const std::uint64_t key = key_of(number, read.size);
    const geometric::Name name{key, tag, tag};
    if (guest_physical_.find(number, name) != nullptr) return 0;
    unsigned first = 0;
    for (unsigned level = 2; level <= 4 && first == 0; ++level) {
        const std::uint64_t prefix = prefix_of(guest_physical, level);
        if (ept_structures_[level - 2].find(prefix, {prefix, tag, tag}) != nullptr) first = 5 - level;
    }
    // A structure entry of an address that is now mapped by a larger page leads nowhere.
    first = std::min(first, read.reads - 1);
    for (unsigned index = first; index + 1 < read.reads; ++index) {
        const unsigned level = 4 - index;
        const std::uint64_t prefix = prefix_of(guest_physical, level);
        ept_structures_[level - 2].insert(prefix, {prefix, tag, tag}, {});
    }
    if (read.translated) guest_physical_.insert_new(number, name, {});
    return read.reads - first;
}

void GeometricTlb::keep(std::uint64_t linear_address, Access access, const geometric::Walked& walk,
                        bool absent) {
    if (!context_.paging) return;
    const bool wrote = access.kind == AccessKind::write;
    PageSize size = walk.mapping.size;
    unsigned ept_rights = ept_all_rights;
    bool writable_now = walk.mapping.dirty || wrote;
    if (context_.ept_in_use) {
        size = std::min(size, walk.final_ept.size);
        ept_rights = walk.final_ept.rights;
        writable_now = writable_now && (!context_.ept.accessed_and_dirty() || walk.final_ept.dirty || wrote);
    }
    const Translation translation = {
        .host_frame = page_base(walk.outcome.physical, size) >> 12 & 0xFF'FFFF'FFFF,
        .writable = walk.mapping.rights.writable,
        .user = walk.mapping.rights.user,
        .execute_disable = walk.mapping.rights.execute_disable,
        .ept_rights = ept_rights & ept_all_rights,
        .writable_now = writable_now,
        .structure_size =
            walk.mapping.half_of_4m ? halves_of_4m : static_cast<unsigned>(walk.mapping.size) & 3,
    };
    const std::size_t index = static_cast<std::size_t>(size);
    sizes_held_ |= 1U << index;
    const std::uint64_t number = page_number(linear_address, size);
    const Tag tag = walk.mapping.global ? global_tag_ : tag_;
    const geometric::Name name{key_of(number, size), tag, tag};
    auto& first = access.kind == AccessKind::fetch ? instruction_ : data_;
    const auto put = [&](Pages& pages, std::uint32_t ways) {
        if (absent) {
            pages.insert_new(number, name, translation, ways);
        } else {
            pages.insert(number, name, translation, ways);
        }
    };
    put(first[index], Pages::every_way);
    if (geometry_.second_ways[index] != 0) {
        put(second_, geometry_.second_ways[index]);
    } else if (size == PageSize::size_1g) {
        put(second_1g_, Pages::every_way);
    }
}

void GeometricTlb::invalidate(const Invalidation& what) {
    if (what.linear) drop(*what.linear);
    if (what.guest_physical) drop(*what.guest_physical);
}

void GeometricTlb::drop(const LinearScope& scope) {
    const std::uint64_t ept = scope.ep4ta ? ept_number(*scope.ep4ta) : 0;
    const auto covers = [&](Tag tag) {
        if (scope.vpids == LinearScope::Vpids::one && vpid_of(tag) != scope.vpid) return false;
        if (scope.vpids == LinearScope::Vpids::all_but_zero && vpid_of(tag) == 0) return false;
        if (pcid_of(tag) == geometric::global_pcid) {
            if (!scope.globals) return false;
        } else if (scope.pcid && pcid_of(tag) != *scope.pcid) {
            return false;
        }
        if (!scope.combined_only) return true;
        return ept_number_of(tag) != 0 && (!scope.ep4ta || ept_number_of(tag) == ept);
    };
    const auto page_goes = [&](const Pages::Entry& entry) {
        const std::uint64_t key = entry.key;
        const Translation& translation = entry.payload;
        if (!covers(entry.tag)) return false;
        if (!scope.linear_address) return true;
        const std::uint64_t base = (key >> 2) << page_shift(size_of(key));
        if (translation.structure_size == halves_of_4m) return base >> 22 == *scope.linear_address >> 22;
        const PageSize size = std::max(size_of(key), static_cast<PageSize>(translation.structure_size));
        return page_base(base, size) == page_base(*scope.linear_address & address_bits, size);
    };
    for (std::size_t index = 0; index < 3; ++index) {
        data_[index].erase_if(page_goes);
        instruction_[index].erase_if(page_goes);
    }
    second_.erase_if(page_goes);
    second_1g_.erase_if(page_goes);
    for (unsigned level = 2; level <= 4; ++level) {
        structures_[level - 2].erase_if([&](const Structures::Entry& entry) {
            if (!covers(entry.tag)) return false;
            if (!scope.linear_address || scope.all_structure_entries) return true;
            return entry.key == prefix_of(*scope.linear_address, level);
        });
    }
}

void GeometricTlb::drop(const GuestPhysicalScope& scope) {
    const std::uint64_t ept = scope.ep4ta ? ept_number(*scope.ep4ta) : 0;
    const auto covers = [&](Tag tag) { return !scope.ep4ta || ept_number_of(tag) == ept; };
    guest_physical_.erase_if([&](const Structures::Entry& entry) {
        if (!covers(entry.tag)) return false;
        if (!scope.guest_physical) return true;
        return entry.key ==
               key_of(page_number(*scope.guest_physical, size_of(entry.key)), size_of(entry.key));
    });
    for (unsigned level = 2; level <= 4; ++level) {
        ept_structures_[level - 2].erase_if([&](const Structures::Entry& entry) {
            if (!covers(entry.tag)) return false;
            return !scope.guest_physical || entry.key == prefix_of(*scope.guest_physical, level);
        });
    }
}

void GeometricTlb::reset() {
    for (std::size_t index = 0; index < 3; ++index) {
        data_[index].clear();
        instruction_[index].clear();
        structures_[index].clear();
        ept_structures_[index].clear();
    }
    second_.clear();
    second_1g_.clear();
    guest_physical_.clear();
    sizes_held_ = 0;
}

std::size_t GeometricTlb::size() const {
    std::size_t total = second_.size() + second_1g_.size() + guest_physical_.size();
    for (std::size_t index = 0; index < 3; ++index) {
        total += data_[index].size() + instruction_[index].size() + structures_[index].size() +
                 ept_structures_[index].size();
    }
    return total;
}

}  // namespace flatback::machine
