#include "machine/retentive/enumerator.hpp"

#include <algorithm>

#include "machine/rules/address.hpp"
#include "x86/paging_bits.hpp"

namespace flatback::machine {

using retentive::GuestPhysicalBucket;
using retentive::LinearBucket;

namespace {

constexpr std::array<PageSize, 3> all_sizes = {PageSize::size_4k, PageSize::size_2m, PageSize::size_1g};

}  // namespace

void RetentiveEnumerator::run(const PageWalk& walk) {
    if (context_.ept_in_use) guest_physical_ = tlb_.find_guest_physical(context_.ept.ep4ta());
    outcomes_.push_back({walk.outcome, Provenance{}});
    if (context_.paging) {
        add_cached_pages(context_.pcid);
        add_cached_pages(retentive::global_pcid);
        add_cached_structures(walk);
    }
    if (context_.ept_in_use) add_cached_ept(walk);
    while (next_ < items_.size()) {
        const Item item = items_[next_++];
        advance(item);
    }
}

void RetentiveEnumerator::add(const Outcome& outcome, const Provenance& provenance) {
    for (const PermittedOutcome& known : outcomes_) {
        if (known.outcome == outcome) return;
    }
    outcomes_.push_back({outcome, provenance});
}

Provenance RetentiveEnumerator::combine(const Provenance& first, const Provenance& second) const {
    return first.source == Provenance::Source::memory ? second : first;
}

void RetentiveEnumerator::add_cached_pages(std::uint16_t pcid) {
    const LinearBucket* bucket = tlb_.find({context_.vpid, pcid, context_.ep4ta()});
    if (bucket == nullptr) return;
    const bool keeps_ept_dirty = context_.ept_in_use && context_.ept.accessed_and_dirty();
    for (const PageSize size : all_sizes) {
        bucket->pages.for_key(
            retentive::page_key(linear_address_, size), [&](const retentive::PageEntry& entry) {
                const Provenance provenance{Provenance::Source::page, context_.vpid, pcid, context_.ep4ta(),
                                            entry.made_at};
                if (!permits(context_, entry.rights, access_)) {
                    add(Outcome::page_fault(page_fault_error(context_, access_, true, false)), provenance);
                    return;
                }
                // An entry without D does not serve a write: the processor walks, to set the flag.
                if (access_.kind == AccessKind::write && !entry.dirty) return;
                const std::uint64_t offset = page_offset(linear_address_, size);
                if (context_.ept_in_use && (entry.ept_rights & needed_rights(access_.kind)) == 0) {
                    add(Outcome::ept_violation(
                            entry.guest_page + offset,
                            final_violation(context_, access_.kind, entry.ept_rights, entry.rights)),
                        provenance);
                    return;
                }
                if (access_.kind == AccessKind::write && keeps_ept_dirty && !entry.ept_dirty) return;
                add(Outcome::translated(entry.host_page + offset), provenance);
            });
    }
}

void RetentiveEnumerator::add_cached_structures(const PageWalk& walk) {
    const LinearBucket* bucket = tlb_.find({context_.vpid, context_.pcid, context_.ep4ta()});
    if (bucket == nullptr || bucket->structures.empty()) return;
    for (unsigned level = context_.top_level(); level >= 2; --level) {
        bucket->structures.for_key(
            retentive::structure_key(context_, linear_address_, level),
            [&](const retentive::StructureEntry& entry) {
                const PagePosition position{entry.table_host, level - 1, entry.rights};
                const unsigned index = context_.top_level() - position.level;
                if (index < walk.reads && walk.steps[index].position == position &&
                    (!context_.ept_in_use || walk.steps[index].ept.rights == entry.table_rights)) {
                    return;
                }
                push({position,
                      entry.table_rights,
                      true,
                      entry.table_guest,
                      {Provenance::Source::structure, context_.vpid, context_.pcid, context_.ep4ta(),
                       entry.made_at}});
            });
    }
}

RetentiveEnumerator::EptOption RetentiveEnumerator::from_walk(const EptWalk& walk) const {
    const bool keeps_flags = context_.ept.accessed_and_dirty();
    return {walk.result,
            walk.host_physical,
            walk.rights,
            !keeps_flags || walk.dirty,
            !keeps_flags || walk.accessed,
            walk.size,
            Provenance{.ep4ta = context_.ep4ta()}};
}

void RetentiveEnumerator::cached_options(std::uint64_t guest_physical, bool write, const EptWalk& now,
                                         std::vector<EptOption>& options) {
    const GuestPhysicalBucket* bucket = guest_physical_;
    if (bucket == nullptr) return;
    const EptOption known = from_walk(now);
    const auto offer = [&](const EptOption& option) {
        if (option.same_effect(known)) return;
        for (const EptOption& other : options) {
            if (option.same_effect(other)) return;
        }
        options.push_back(option);
    };
    for (const PageSize size : all_sizes) {
        bucket->pages.for_key(
            retentive::page_key(guest_physical, size), [&](const retentive::GuestPhysicalEntry& entry) {
                // As above: without D the entry does not serve a write that it would permit.
                if (write && !entry.dirty && (entry.rights & ept_write) != 0) return;
                offer(
                    {EptWalk::Result::translated, entry.host_page + page_offset(guest_physical, size),
                     entry.rights, entry.dirty, true, size,
                     Provenance{Provenance::Source::guest_physical, 0, 0, context_.ep4ta(), entry.made_at}});
            });
    }
    for (unsigned level = 4; level >= 2; --level) {
        bucket->structures.for_key(
            retentive::structure_key(guest_physical, level), [&](const retentive::EptStructureEntry& entry) {
                const EptPosition start{entry.table, level - 1, entry.rights};
                // The walk in memory passes here too: what follows is the same.
                if (5 - level < now.reads && now.positions[5 - level] == start) return;
                const EptWalk walk =
                    walk_ept(memory_, context_.ept, context_.physical_address_bits, guest_physical, start);
                EptOption option = from_walk(walk);
                option.provenance.source = Provenance::Source::ept_structure;
                option.provenance.made_at = entry.made_at;
                if (!option.same_effect(known) && option.flags_set &&
                    walk.result == EptWalk::Result::translated) {
                    guest_physical_found.push_back({guest_physical,
                                                    walk.size,
                                                    {page_base(walk.host_physical, walk.size), walk.rights,
                                                     option.dirty, entry.made_at}});
                    for (unsigned index = 1; index < walk.reads; ++index) {
                        const EptPosition& position = walk.positions[index];
                        ept_structures_found.push_back({guest_physical,
                                                        position.level + 1,
                                                        {position.table, position.rights, entry.made_at}});
                    }
                }
                offer(option);
            });
    }
}

bool RetentiveEnumerator::settled(std::uint64_t guest_physical, bool write) const {
    return tlb_.is_settled(tlb_.settled_now(memory_, context_.ept, guest_physical, write));
}

void RetentiveEnumerator::add_cached_ept(const PageWalk& walk) {
    std::vector<EptOption> options;
    if (context_.paging) {
        // The last step is one more than was read where EPT did not let the walk read it.
        const bool stopped = walk.reads < context_.top_level() && !walk.mapped &&
                             walk.outcome.kind != Outcome::Kind::page_fault;
        const unsigned steps = walk.reads + (stopped ? 1 : 0);
        bool flags_set = true;
        for (unsigned index = 0; index < steps; ++index) {
            const PageWalkStep& step = walk.steps[index];
            const EptOption known = from_walk(step.ept);
            options.clear();
            if (!settled(step.table, context_.ept.accessed_and_dirty()))
                cached_options(step.table, context_.ept.accessed_and_dirty(), step.ept, options);
            for (const EptOption& option : options) {
                use_table(option, step.table, step.position.level, step.position.rights, flags_set,
                          Provenance{});
            }
            flags_set = flags_set && known.flags_set && (step.entry & x86::page_entry::accessed) != 0;
        }
    }
    if (walk.mapped && (!context_.paging || permits(context_, walk.mapping.rights, access_))) {
        EptWalk other;
        const EptWalk* final_walk = &walk.final_ept;
        if (!walk.final_ept_walked) {
            walk_ept(memory_, context_.ept, context_.physical_address_bits, walk.mapping.physical,
                     ept_start(context_.ept), other);
            final_walk = &other;
        }
        options.clear();
        const bool write = access_.kind == AccessKind::write;
        if (!settled(walk.mapping.physical, write))
            cached_options(walk.mapping.physical, write, *final_walk, options);
        for (const EptOption& option : options) use_page(option, walk.mapping, walk.accessed, Provenance{});
    }
}

void RetentiveEnumerator::push(const Item& item) {
    for (const Item& known : items_) {
        if (known.position == item.position && known.table_rights == item.table_rights &&
            known.flags_set == item.flags_set) {
            return;
        }
    }
    items_.push_back(item);
}

void RetentiveEnumerator::use_table(const EptOption& option, std::uint64_t table, unsigned level,
                                    GuestRights rights, bool flags_set, const Provenance& so_far) {
    const Provenance provenance = combine(so_far, option.provenance);
    const std::uint64_t entry_address = table + page_entry_offset(context_, linear_address_, level);
    if (option.result == EptWalk::Result::misconfigured) {
        add(Outcome::ept_misconfiguration(entry_address), provenance);
        return;
    }
    const EptRights needed = context_.ept.accessed_and_dirty() ? ept_read | ept_write : ept_read;
    if ((option.rights & needed) != needed) {
        add(Outcome::ept_violation(entry_address, structure_violation(context_, option.rights, false)),
            provenance);
        return;
    }
    push({{option.host_physical, level, rights},
          option.rights,
          flags_set && option.flags_set,
          table,
          provenance});
}

void RetentiveEnumerator::advance(const Item& item) {
    const unsigned level = item.position.level;
    const std::uint64_t entry_address =
        item.position.table_host + page_entry_offset(context_, linear_address_, level);
    const std::uint64_t entry = page_entry_of(context_, entry_address, memory_.read_structure(entry_address));
    const PageEntryKind kind = classify_page_entry(context_, level, entry);
    if (kind == PageEntryKind::not_present) {
        add(Outcome::page_fault(page_fault_error(context_, access_, false, false)), item.provenance);
        return;
    }
    if (kind == PageEntryKind::reserved_bit) {
        add(Outcome::page_fault(page_fault_error(context_, access_, true, true)), item.provenance);
        return;
    }
    const bool dirties = kind == PageEntryKind::page && access_.kind == AccessKind::write &&
                         (entry & x86::page_entry::dirty) == 0;
    const bool accessed = (entry & x86::page_entry::accessed) != 0;
    const bool flags_set = item.flags_set && accessed;
    if (kind == PageEntryKind::table) {
        if (context_.ept_in_use && !accessed && (item.table_rights & ept_write) == 0) {
            refuse_flag(item, entry_address);
            return;
        }
        const GuestRights rights = accumulate(item.position.rights, entry);
        const std::uint64_t table = entry & x86::page_entry::address_mask;
        if (!context_.ept_in_use) {
            if (flags_set)
                structures_found.push_back(
                    {level, {table, 0, rights, ept_all_rights, item.provenance.made_at}});
            push({{table, level - 1, rights}, ept_all_rights, flags_set, table, item.provenance});
            return;
        }
        const EptWalk now =
            walk_ept(memory_, context_.ept, context_.physical_address_bits, table, ept_start(context_.ept));
        std::vector<EptOption> options{from_walk(now)};
        cached_options(table, context_.ept.accessed_and_dirty(), now, options);
        for (const EptOption& option : options) {
            if (flags_set && option.flags_set && option.result == EptWalk::Result::translated) {
                structures_found.push_back(
                    {level, {option.host_physical, table, rights, option.rights, item.provenance.made_at}});
            }
            use_table(option, table, level - 1, rights, flags_set, item.provenance);
        }
        return;
    }
    const PageMapping mapping = page_mapping(context_, level, entry, item.position.rights, linear_address_);
    if (!permits(context_, mapping.rights, access_)) {
        add(Outcome::page_fault(page_fault_error(context_, access_, true, false)), item.provenance);
        return;
    }
    if (context_.ept_in_use && (!accessed || dirties) && (item.table_rights & ept_write) == 0) {
        refuse_flag(item, entry_address);
        return;
    }
    reach_page(mapping, flags_set && !dirties, item.provenance);
}

void RetentiveEnumerator::refuse_flag(const Item& item, std::uint64_t entry_address) {
    add(Outcome::ept_violation(item.table_guest + (entry_address & 0xFFF),
                               structure_violation(context_, item.table_rights, true)),
        item.provenance);
}

void RetentiveEnumerator::reach_page(const PageMapping& mapping, bool flags_set, const Provenance& so_far) {
    if (!context_.ept_in_use) {
        add(Outcome::translated(mapping.physical), so_far);
        if (flags_set) {
            pages_found.push_back(
                {mapping.global,
                 mapping.size,
                 {page_base(mapping.physical, mapping.size), 0, mapping.rights, ept_all_rights, mapping.dirty,
                  true, mapping.size, mapping.half_of_4m, so_far.made_at}});
        }
        return;
    }
    const EptWalk now = walk_ept(memory_, context_.ept, context_.physical_address_bits, mapping.physical,
                                 ept_start(context_.ept));
    std::vector<EptOption> options{from_walk(now)};
    cached_options(mapping.physical, access_.kind == AccessKind::write, now, options);
    for (const EptOption& option : options) use_page(option, mapping, flags_set, so_far);
}

void RetentiveEnumerator::use_page(const EptOption& option, const PageMapping& mapping, bool flags_set,
                                   const Provenance& so_far) {
    const Provenance provenance = combine(so_far, option.provenance);
    if (option.result == EptWalk::Result::misconfigured) {
        add(Outcome::ept_misconfiguration(mapping.physical), provenance);
        return;
    }
    if ((option.rights & needed_rights(access_.kind)) == 0) {
        add(Outcome::ept_violation(mapping.physical,
                                   final_violation(context_, access_.kind, option.rights, mapping.rights)),
            provenance);
        return;
    }
    add(Outcome::translated(option.host_physical), provenance);
    // Without paging there is no combined mapping, only the guest-physical one.
    if (!context_.paging || !flags_set || !option.flags_set) return;
    const PageSize size = std::min(mapping.size, option.size);
    pages_found.push_back(
        {mapping.global,
         size,
         {page_base(option.host_physical, size), page_base(mapping.physical, size), mapping.rights,
          option.rights, mapping.dirty, option.dirty, mapping.size, mapping.half_of_4m, provenance.made_at}});
}

}  // namespace flatback::machine
