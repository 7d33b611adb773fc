#include "machine/retentive/retentive_tlb.hpp"

#include <algorithm>
#include <cstdio>

#include "machine/error.hpp"
#include "machine/retentive/enumerator.hpp"

namespace flatback::machine {

using retentive::GuestPhysicalBucket;
using retentive::LinearBucket;
using retentive::LinearTag;

namespace {

constexpr std::size_t memo_index(std::uint64_t page) {
    return (page ^ (page >> 9)) & 255;
}

/// The page and the kind of an access, as one number.
constexpr std::uint64_t memo_page(std::uint64_t linear_address, Access access) {
    return (linear_address & ~std::uint64_t{0xFFF}) | static_cast<std::uint64_t>(access.kind) |
           (access.user ? 4U : 0U);
}

}  // namespace

const LinearBucket* RetentiveTlb::find(const LinearTag& tag) const {
    const auto found = linear_.find(tag);
    return found == linear_.end() ? nullptr : &found->second;
}

const GuestPhysicalBucket* RetentiveTlb::find_guest_physical(std::uint64_t ep4ta) const {
    const auto found = guest_physical_.find(ep4ta);
    return found == guest_physical_.end() ? nullptr : &found->second;
}

Outcome RetentiveTlb::access(PhysicalMemory& memory, const TranslationContext& context,
                             std::uint64_t linear_address, Access access) {
    if (!(context == last_context_)) {
        last_context_ = context;
        ++context_serial_;
    }
    choices_.clear();
    const std::uint64_t page = memo_page(linear_address, access);
    Memo& memo = memos_[memo_index(page >> 12)];
    if (memo.page == page && memo.context_serial == context_serial_ && memo.tlb_version == version_ &&
        memo.memory_version == memory.structure_version()) {
        return Outcome::translated(memo.host_page | (linear_address & 0xFFF));
    }

    walk_pages(memory, context, linear_address, access, walk_);
    RetentiveEnumerator enumerator(*this, memory, context, linear_address, access);
    enumerator.run(walk_);
    if (enumerator.outcomes().size() > 1) choices_ = enumerator.outcomes();

    PermittedOutcome chosen = enumerator.outcomes().front();
    if (options_.resolution == Resolution::oldest) {
        for (const PermittedOutcome& other : enumerator.outcomes()) {
            const bool cached = other.provenance.source != Provenance::Source::memory;
            const bool chosen_cached = chosen.provenance.source != Provenance::Source::memory;
            if (cached && (!chosen_cached || other.provenance.made_at < chosen.provenance.made_at))
                chosen = other;
        }
    }
    const bool from_memory = chosen.provenance.source == Provenance::Source::memory;
    if (from_memory && chosen.outcome.is_translated()) set_page_flags(memory, context, walk_, access);
    if (!chosen.outcome.is_translated()) {
        insert_walk(memory, context, linear_address, walk_, false);
        after_fault(context, linear_address, chosen.outcome);
        return chosen.outcome;
    }
    if (from_memory) insert_walk(memory, context, linear_address, walk_, access.kind == AccessKind::write);
    keep_found(enumerator, context, linear_address);
    if (enumerator.outcomes().size() == 1) {
        memo = {page, context_serial_, version_, memory.structure_version(),
                chosen.outcome.physical & ~std::uint64_t{0xFFF}};
    }
    return chosen.outcome;
}

void RetentiveTlb::keep_found(const RetentiveEnumerator& enumerator, const TranslationContext& context,
                              std::uint64_t linear_address) {
    for (const auto& found : enumerator.pages_found) {
        const std::uint16_t pcid = found.global ? retentive::global_pcid : context.pcid;
        insert_page(linear_[{context.vpid, pcid, context.ep4ta()}], linear_address, found.size, found.entry);
    }
    for (const auto& found : enumerator.structures_found) {
        insert_structure(linear_[{context.vpid, context.pcid, context.ep4ta()}],
                         retentive::structure_key(context, linear_address, found.level), found.entry);
    }
    if (enumerator.guest_physical_found.empty()) return;
    GuestPhysicalBucket& bucket = guest_physical_[context.ep4ta()];
    for (const auto& found : enumerator.guest_physical_found) {
        if (bucket.pages.insert(retentive::page_key(found.guest_physical, found.size), found.entry)) {
            inserted_guest_physical();
        }
    }
    for (const auto& found : enumerator.ept_structures_found) {
        if (bucket.structures.insert(retentive::structure_key(found.guest_physical, found.level),
                                     found.entry)) {
            inserted_guest_physical();
        }
    }
}

PermittedOutcomes RetentiveTlb::permitted(const PhysicalMemory& memory, const TranslationContext& context,
                                          std::uint64_t linear_address, Access access) const {
    PageWalk walk;
    walk_pages(memory, context, linear_address, access, walk);
    RetentiveEnumerator enumerator(*this, memory, context, linear_address, access);
    enumerator.run(walk);
    return enumerator.outcomes();
}

void RetentiveTlb::prefetch(PhysicalMemory& memory, const TranslationContext& context,
                            std::uint64_t linear_address, Access access) {
    // A store that does not retire sets no dirty flag: what it brings in is what a load brings in.
    if (access.kind == AccessKind::write) access.kind = AccessKind::read;
    walk_pages(memory, context, linear_address, access, walk_);
    RetentiveEnumerator enumerator(*this, memory, context, linear_address, access);
    enumerator.run(walk_);
    keep_found(enumerator, context, linear_address);
    if (!walk_.outcome.is_translated()) return;
    set_page_flags(memory, context, walk_, access);
    insert_walk(memory, context, linear_address, walk_, false);
}

void RetentiveTlb::inserted() {
    ++version_;
    if (++size_ > options_.entry_limit) {
        throw LimitReached("retentive TLB: the limit of " + std::to_string(options_.entry_limit) +
                           " entries is reached");
    }
}

void RetentiveTlb::insert_page(LinearBucket& bucket, std::uint64_t linear_address, PageSize size,
                               const retentive::PageEntry& entry) {
    if (entry.structure_size != size || entry.half_of_4m) bucket.split = true;
    if (bucket.pages.insert(retentive::page_key(linear_address, size), entry)) inserted();
}

void RetentiveTlb::insert_structure(LinearBucket& bucket, std::uint64_t key,
                                    const retentive::StructureEntry& entry) {
    if (bucket.structures.insert(key, entry)) inserted();
}

RetentiveTlb::Settled RetentiveTlb::settled_now(const PhysicalMemory& memory, const EptContext& ept,
                                                std::uint64_t guest_physical, bool write) const {
    return {(guest_physical & ~std::uint64_t{0xFFF}) | (write ? 1U : 0U), ept.eptp, guest_physical_version_,
            memory.structure_version()};
}

/// `write`: the access to the page counts as a write; `wrote`: and it was made, so that D is set.
void RetentiveTlb::insert_ept_walk(const PhysicalMemory& memory, const EptContext& ept,
                                   std::uint64_t guest_physical, const EptWalk& walk, bool write,
                                   bool wrote) {
    if (walk.result != EptWalk::Result::translated) return;
    if (is_settled(settled_now(memory, ept, guest_physical, write))) return;
    const auto found = guest_physical_.try_emplace(ept.ep4ta()).first;
    GuestPhysicalBucket& bucket = found->second;
    const bool dirty = !ept.accessed_and_dirty() || walk.dirty || wrote;
    const std::uint64_t key = retentive::page_key(guest_physical, walk.size);
    bool alone = true;
    if (bucket.pages.insert(key, {page_base(walk.host_physical, walk.size), walk.rights, dirty, step_})) {
        inserted_guest_physical();
    }
    // A smaller or larger page may cover the address too.
    for (const PageSize size : {PageSize::size_4k, PageSize::size_2m, PageSize::size_1g}) {
        unsigned values = 0;
        bucket.pages.for_key(retentive::page_key(guest_physical, size), [&](const auto&) { ++values; });
        alone = alone && values == (size == walk.size ? 1U : 0U);
    }
    for (unsigned index = 1; index < walk.reads; ++index) {
        const EptPosition& position = walk.positions[index];
        const std::uint64_t structure = retentive::structure_key(guest_physical, position.level + 1);
        if (bucket.structures.insert(structure, {position.table, position.rights, step_}))
            inserted_guest_physical();
    }
    for (unsigned level = 2; level <= 4; ++level) {
        unsigned values = 0;
        bucket.structures.for_key(retentive::structure_key(guest_physical, level),
                                  [&](const auto&) { ++values; });
        const unsigned position_of_next = 5 - level;
        alone = alone && values == (position_of_next < walk.reads ? 1U : 0U);
    }
    // Nothing else is cached for it: until something changes there is nothing to look up.
    if (alone) {
        const Settled place = settled_now(memory, ept, guest_physical, write);
        settled_[settled_index(place)] = place;
    }
}

void RetentiveTlb::insert_walk(const PhysicalMemory& memory, const TranslationContext& context,
                               std::uint64_t linear_address, const PageWalk& walk, bool wrote) {
    // Flags were set on the way only if the walk translated; an entry with a flag to set is not cached before
    // it is set.
    const bool completed = walk.outcome.is_translated();
    const bool keeps_ept_flags = context.ept_in_use && context.ept.accessed_and_dirty();
    LinearBucket* const bucket =
        completed && context.paging ? &linear_[{context.vpid, context.pcid, context.ep4ta()}] : nullptr;
    for (unsigned index = 0; index < walk.reads; ++index) {
        const PageWalkStep& step = walk.steps[index];
        if (context.ept_in_use && (completed || !keeps_ept_flags || step.ept.accessed)) {
            insert_ept_walk(memory, context.ept, step.table, step.ept, keeps_ept_flags,
                            completed && keeps_ept_flags);
        }
        if (index != 0 && bucket != nullptr) {
            insert_structure(
                *bucket, retentive::structure_key(context, linear_address, step.position.level + 1),
                {step.position.table_host, context.ept_in_use ? step.table : 0, step.position.rights,
                 context.ept_in_use ? step.ept.rights : ept_all_rights, step_});
        }
    }
    if (!completed) return;
    if (context.ept_in_use) {
        insert_ept_walk(memory, context.ept, walk.mapping.physical, walk.final_ept, wrote, wrote);
    }
    if (!context.paging) return;
    const PageMapping& mapping = walk.mapping;
    retentive::PageEntry entry;
    PageSize size = mapping.size;
    entry.rights = mapping.rights;
    entry.dirty = mapping.dirty || wrote;
    entry.ept_dirty = true;
    entry.structure_size = mapping.size;
    entry.half_of_4m = mapping.half_of_4m;
    entry.made_at = step_;
    if (context.ept_in_use) {
        size = std::min(size, walk.final_ept.size);
        entry.guest_page = page_base(mapping.physical, size);
        entry.ept_rights = walk.final_ept.rights;
        entry.ept_dirty = !keeps_ept_flags || walk.final_ept.dirty || wrote;
    }
    entry.host_page = page_base(walk.outcome.physical, size);
    LinearBucket& target =
        mapping.global ? linear_[{context.vpid, retentive::global_pcid, context.ep4ta()}] : *bucket;
    insert_page(target, linear_address, size, entry);
    const bool ept_has_both = !context.ept_in_use || walk.final_ept.size == PageSize::size_1g;
    if (mapping.half_of_4m && ept_has_both) {
        entry.host_page ^= x86::page_size_2m;
        if (context.ept_in_use) entry.guest_page ^= x86::page_size_2m;
        insert_page(target, linear_address ^ x86::page_size_2m, size, entry);
    }
}

void RetentiveTlb::after_fault(const TranslationContext& context, std::uint64_t linear_address,
                               const Outcome& outcome) {
    switch (outcome.kind) {
        case Outcome::Kind::page_fault:
            invalidate(invalidation::page_fault(context.vpid, context.pcid, linear_address));
            break;
        case Outcome::Kind::ept_violation:
            if (context.paging) {
                invalidate(invalidation::ept_violation(context.ept.ep4ta(), outcome.physical, context.vpid,
                                                       context.pcid, linear_address));
            } else {
                invalidate(invalidation::ept_violation(context.ept.ep4ta(), outcome.physical));
            }
            break;
        case Outcome::Kind::translated:
        case Outcome::Kind::ept_misconfiguration:
            break;
    }
}

void RetentiveTlb::invalidate(const Invalidation& what) {
    if (what.linear) drop(*what.linear);
    if (what.guest_physical) drop(*what.guest_physical);
}

namespace {

bool covers(const LinearScope& scope, const LinearTag& tag) {
    switch (scope.vpids) {
        case LinearScope::Vpids::one:
            if (tag.vpid != scope.vpid) return false;
            break;
        case LinearScope::Vpids::all_but_zero:
            if (tag.vpid == 0) return false;
            break;
        case LinearScope::Vpids::every:
            break;
    }
    if (tag.pcid == retentive::global_pcid) {
        if (!scope.globals) return false;
    } else if (scope.pcid && tag.pcid != *scope.pcid) {
        return false;
    }
    if (!scope.combined_only) return true;
    return tag.ep4ta != no_ep4ta && (!scope.ep4ta || tag.ep4ta == *scope.ep4ta);
}

}  // namespace

std::size_t RetentiveTlb::drop_from(const LinearScope& scope, LinearBucket& bucket) {
    if (!scope.linear_address) {
        bucket.split = false;
        return bucket.pages.clear() + bucket.structures.clear();
    }
    const std::uint64_t address = *scope.linear_address;
    std::size_t dropped = 0;
    if (bucket.split) {
        // All pieces of a larger page go with any address in it (SDM 3A 4.10.2.3).
        dropped += bucket.pages.erase_if([&](std::uint64_t key, const retentive::PageEntry& entry) {
            const auto size = static_cast<PageSize>(key & 3);
            const PageSize whole = std::max(size, entry.structure_size);
            const std::uint64_t base = (key >> 2) << page_shift(size);
            if (entry.half_of_4m) return base >> 22 == (address & 0x0000'FFFF'FFFF'FFFF) >> 22;
            return page_base(base, whole) == page_base(address & 0x0000'FFFF'FFFF'FFFF, whole);
        });
    } else {
        for (const PageSize size : {PageSize::size_4k, PageSize::size_2m, PageSize::size_1g}) {
            dropped += bucket.pages.erase_key(retentive::page_key(address, size));
        }
    }
    if (scope.all_structure_entries) {
        dropped += bucket.structures.clear();
    } else {
        for (unsigned level = 2; level <= 4; ++level) {
            dropped += bucket.structures.erase_key(retentive::structure_key(address, level));
        }
        dropped += bucket.structures.erase_key(retentive::directory_key_of_32_bits(address));
    }
    return dropped;
}

void RetentiveTlb::drop(const LinearScope& scope) {
    std::size_t dropped = 0;
    for (auto place = linear_.begin(); place != linear_.end();) {
        if (!covers(scope, place->first)) {
            ++place;
            continue;
        }
        dropped += drop_from(scope, place->second);
        // What was emptied often is filled again at once: only a large map is worth shrinking.
        if (place->second.size() == 0 && linear_.size() > 64) {
            place = linear_.erase(place);
        } else {
            ++place;
        }
    }
    size_ -= dropped;
    if (dropped != 0) ++version_;
}

void RetentiveTlb::drop(const GuestPhysicalScope& scope) {
    std::size_t dropped = 0;
    for (auto& [ep4ta, bucket] : guest_physical_) {
        if (scope.ep4ta && ep4ta != *scope.ep4ta) continue;
        if (!scope.guest_physical) {
            dropped += bucket.pages.clear() + bucket.structures.clear();
            continue;
        }
        for (const PageSize size : {PageSize::size_4k, PageSize::size_2m, PageSize::size_1g}) {
            dropped += bucket.pages.erase_key(retentive::page_key(*scope.guest_physical, size));
        }
        for (unsigned level = 2; level <= 4; ++level) {
            dropped += bucket.structures.erase_key(retentive::structure_key(*scope.guest_physical, level));
        }
    }
    size_ -= dropped;
    if (dropped != 0) {
        ++version_;
        ++guest_physical_version_;
    }
}

void RetentiveTlb::reset() {
    linear_.clear();
    guest_physical_.clear();
    size_ = 0;
    ++version_;
    ++guest_physical_version_;
}

namespace {

std::string line(const char* kind, std::uint64_t address, std::uint64_t to, const std::string& tag,
                 std::uint64_t made_at) {
    char text[160];
    std::snprintf(text, sizeof text, "%s 0x%llx -> 0x%llx, %s, made at step %llu", kind,
                  static_cast<unsigned long long>(address), static_cast<unsigned long long>(to), tag.c_str(),
                  static_cast<unsigned long long>(made_at));
    return text;
}

std::string name(const LinearTag& tag) {
    char text[96];
    std::snprintf(text, sizeof text, "VPID %u, %s 0x%x", tag.vpid,
                  tag.pcid == retentive::global_pcid ? "global" : "PCID", tag.pcid & 0xFFFU);
    std::string result = text;
    if (tag.ep4ta != no_ep4ta) {
        std::snprintf(text, sizeof text, ", EP4TA 0x%llx", static_cast<unsigned long long>(tag.ep4ta));
        result += text;
    }
    return result;
}

}  // namespace

std::vector<std::string> RetentiveTlb::describe_entries() const {
    std::vector<std::string> lines;
    for (const auto& [tag, bucket] : linear_) {
        const char* page = tag.ep4ta == no_ep4ta ? "linear mapping" : "combined mapping";
        const char* structure = tag.ep4ta == no_ep4ta ? "linear structure" : "combined structure";
        bucket.pages.for_each([&, &owner = tag](std::uint64_t key, const retentive::PageEntry& entry) {
            const auto size = static_cast<PageSize>(key & 3);
            lines.push_back(
                line(page, (key >> 2) << page_shift(size), entry.host_page, name(owner), entry.made_at));
        });
        bucket.structures.for_each(
            [&, &owner = tag](std::uint64_t key, const retentive::StructureEntry& entry) {
                const std::uint64_t shift = (key & 7) == 1 ? 22 : 3 + 9 * (key & 7);
                lines.push_back(
                    line(structure, (key >> 3) << shift, entry.table_host, name(owner), entry.made_at));
            });
    }
    for (const auto& [ep4ta, bucket] : guest_physical_) {
        char tag[48];
        std::snprintf(tag, sizeof tag, "EP4TA 0x%llx", static_cast<unsigned long long>(ep4ta));
        bucket.pages.for_each([&](std::uint64_t key, const retentive::GuestPhysicalEntry& entry) {
            const auto size = static_cast<PageSize>(key & 3);
            lines.push_back(line("guest-physical mapping", (key >> 2) << page_shift(size), entry.host_page,
                                 tag, entry.made_at));
        });
        bucket.structures.for_each([&](std::uint64_t key, const retentive::EptStructureEntry& entry) {
            lines.push_back(line("guest-physical structure", (key >> 3) << (3 + 9 * (key & 7)), entry.table,
                                 tag, entry.made_at));
        });
    }
    std::ranges::sort(lines);
    return lines;
}

}  // namespace flatback::machine
