#include "watch/tagged_tlbs.hpp"

#include <algorithm>

namespace flatback::watch {
namespace {

constexpr std::size_t examples_kept = 8;
constexpr std::uint64_t page_mask = ~std::uint64_t{0xFFF};
constexpr std::uint64_t present = 1;

std::uint32_t place_in_root(std::uint16_t vpid, std::uint64_t linear) {
    return std::uint32_t{vpid} << 9 | static_cast<std::uint32_t>(linear >> 39 & 0x1FF);
}

}  // namespace

using machine::Access;
using machine::AccessKind;
using machine::Invalidation;
using machine::Outcome;
using machine::TranslationContext;

TaggedTlbs::TaggedTlbs(const machine::TlbGeometry& geometry) : geometry_{&geometry}, geometric_{geometry} {}

void TaggedTlbs::reset() {
    memory_ = machine::PhysicalMemory{};
    structure_pages_.clear();
    last_structure_page_ = ~std::uint64_t{0};
    root_entries_.clear();
    known_root_entries_.clear();
    retentive_ = machine::RetentiveTlb{};
    geometric_ = machine::GeometricTlb{*geometry_};
}

void TaggedTlbs::saw_structure(std::uint64_t address, std::uint64_t entry) {
    if (address >> memory_.address_bits() != 0) return;
    if (address >> 12 != last_structure_page_) {
        last_structure_page_ = address >> 12;
        structure_pages_.insert(last_structure_page_);
    }
    memory_.write(address, entry);
}

void TaggedTlbs::saw_root_entry(std::uint16_t vpid, std::uint64_t address, std::uint64_t entry) {
    saw_structure(address, entry);
    root_entries_[place_in_root(vpid, address >> 3 << 39)] = entry;
}

/// Software may share a part of every root among its processes, and map it globally: the processor goes on
/// with what it has cached, and no walk by the new root is shown. So an entry of a root that has not been
/// seen is what the last root of the VPID had in its place, if that leads to where the access went.
void TaggedTlbs::complete_root(const TranslationContext& context, std::uint64_t linear,
                               std::uint64_t physical) {
    if (!context.paging) return;
    const std::uint64_t known = (context.pml4 | (linear >> 39 & 0x1FF)) ^ std::uint64_t{context.vpid} << 48;
    if (known_root_entries_.contains(known)) return;
    const Access read{.kind = AccessKind::read, .user = false};
    machine::walk_pages(memory_, context, linear, read, walk_);
    if (walk_.reads == 0) return;  // not even the root's place is known
    if ((walk_.steps[0].entry & present) == 0) {
        const auto other = root_entries_.find(place_in_root(context.vpid, linear));
        if (other == root_entries_.end()) return;
        const std::uint64_t place = walk_.steps[0].entry_address;
        memory_.write(place, other->second);
        machine::walk_pages(memory_, context, linear, read, walk_);
        const bool leads_there =
            walk_.outcome.is_translated() && ((walk_.outcome.physical ^ physical) & page_mask) == 0;
        if (!leads_there) {
            memory_.write(place, std::uint64_t{0});
            return;
        }
    }
    known_root_entries_.insert(known);
}

void TaggedTlbs::saw_store(std::uint64_t physical, unsigned length,
                           const std::array<std::uint64_t, 8>& value) {
    if (!structure_pages_.contains(physical >> 12)) return;
    std::array<std::byte, 64> bytes{};
    const std::size_t count = std::min<std::size_t>({length, bytes.size(), 4096 - (physical & 0xFFF)});
    for (std::size_t index = 0; index < count; ++index) {
        bytes[index] = static_cast<std::byte>(value[index / 8] >> (index % 8 * 8));
    }
    memory_.write_bytes(physical, std::span{bytes}.first(count));
}

void TaggedTlbs::access(const TranslationContext& context, std::uint64_t linear, std::uint64_t physical,
                        AccessKind kind) {
    // As a supervisor's, without SMAP: where an access leads does not depend on who makes it.
    const Access access{.kind = kind, .user = false};
    complete_root(context, linear, physical);
    retentive_.set_step(tick_);
    const Outcome outcome = retentive_.access(memory_, context, linear, access);
    judge(linear, physical, false, outcome);
    static_cast<void>(geometric_.access(memory_, context, linear, access));
}

void TaggedTlbs::refused(const TranslationContext& context, std::uint64_t linear, AccessKind kind) {
    const Access access{.kind = kind, .user = false};
    retentive_.set_step(tick_);
    const Outcome outcome = retentive_.access(memory_, context, linear, access);
    if (outcome.kind == Outcome::Kind::ept_violation) judge(linear, 0, true, outcome);
    static_cast<void>(geometric_.access(memory_, context, linear, access));
}

void TaggedTlbs::judge(std::uint64_t linear, std::uint64_t physical, bool refused, const Outcome& outcome) {
    const auto leads_elsewhere = [&](const Outcome& other) {
        return other.is_translated() && (refused || ((other.physical ^ physical) & page_mask) != 0);
    };
    bool explained = refused || !leads_elsewhere(outcome);
    explained = explained && (refused || outcome.is_translated());
    const machine::PermittedOutcome* stale = nullptr;
    for (const machine::PermittedOutcome& choice : retentive_.choices()) {
        if (leads_elsewhere(choice.outcome)) {
            stale = &choice;
        } else if (choice.outcome.is_translated()) {
            explained = true;
        }
    }
    if (!explained) {
        ++unexplained_;
        if (unexplained_accesses_.size() < examples_kept) {
            unexplained_accesses_.push_back({tick_, linear, physical, refused, {outcome, {}}, 0});
        }
        return;
    }
    if (stale == nullptr) return;
    ++stale_;
    if (progress_) ++stale_by_progress_[*progress_];
    if (stale_accesses_.size() < examples_kept) {
        stale_accesses_.push_back({tick_, linear, physical, refused, *stale, stale->provenance.made_at});
    }
}

void TaggedTlbs::invalidate(const Invalidation& what) {
    retentive_.invalidate(what);
    geometric_.invalidate(what);
}

void TaggedTlbs::invalidate(const Invalidation& least, const Invalidation& most) {
    retentive_.invalidate(most);
    geometric_.invalidate(least);
}

}  // namespace flatback::watch
