#pragma once

#include <cstdint>
#include <vector>

#include "../translation/page_walk.hpp"
#include "entries.hpp"
#include "permitted.hpp"
#include "retentive_tlb.hpp"

namespace flatback::machine {

/// Finds every outcome that one access may have: by whole translations, and by walks that begin at, or pass
/// through, something cached. A walk may use any cached entry that covers its address, or what memory says.
class RetentiveEnumerator {
public:
    struct PageFound {
        bool global = false;
        PageSize size = PageSize::size_4k;
        retentive::PageEntry entry{};
    };
    struct StructureFound {
        unsigned level = 0;
        retentive::StructureEntry entry{};
    };
    struct GuestPhysicalFound {
        std::uint64_t guest_physical = 0;
        PageSize size = PageSize::size_4k;
        retentive::GuestPhysicalEntry entry{};
    };
    struct EptStructureFound {
        std::uint64_t guest_physical = 0;
        unsigned level = 0;
        retentive::EptStructureEntry entry{};
    };

    RetentiveEnumerator(const RetentiveTlb& tlb, const PhysicalMemory& memory,
                        const TranslationContext& context, std::uint64_t linear_address, Access access)
        : tlb_(tlb), memory_(memory), context_(context), linear_address_(linear_address), access_(access) {}

    /// `walk` is the walk of this access in memory as it is now; its outcome is the first permitted one.
    void run(const PageWalk& walk);

    [[nodiscard]] const PermittedOutcomes& outcomes() const noexcept { return outcomes_; }

    // What walks over cached entries would cache in turn, where no flag is left to set.
    std::vector<PageFound> pages_found;
    std::vector<StructureFound> structures_found;
    std::vector<GuestPhysicalFound> guest_physical_found;
    std::vector<EptStructureFound> ept_structures_found;

private:
    /// One way in which a guest-physical address may be translated now.
    struct EptOption {
        EptWalk::Result result = EptWalk::Result::translated;
        std::uint64_t host_physical = 0;
        EptRights rights = 0;
        bool dirty = false;
        bool flags_set = true;  // nothing is left to set in the EPT entries
        PageSize size = PageSize::size_4k;
        Provenance provenance{};

        [[nodiscard]] bool same_effect(const EptOption& other) const {
            return result == other.result && host_physical == other.host_physical && rights == other.rights &&
                   dirty == other.dirty;
        }
    };
    struct Item {
        PagePosition position{};
        /// What EPT grants for the table's page.
        EptRights table_rights = 0;
        bool flags_set = true;
        std::uint64_t table_guest = 0;
        Provenance provenance{};
    };

    void add(const Outcome& outcome, const Provenance& provenance);
    void add_cached_pages(std::uint16_t pcid);
    void add_cached_structures(const PageWalk& walk);
    void add_cached_ept(const PageWalk& walk);
    void push(const Item& item);
    void advance(const Item& item);
    void refuse_flag(const Item& item, std::uint64_t entry_address);
    void use_table(const EptOption& option, std::uint64_t table, unsigned level, GuestRights rights,
                   bool flags_set, const Provenance& so_far);
    void reach_page(const PageMapping& mapping, bool flags_set, const Provenance& so_far);
    void use_page(const EptOption& option, const PageMapping& mapping, bool flags_set,
                  const Provenance& so_far);
    [[nodiscard]] EptOption from_walk(const EptWalk& walk) const;
    /// The cached ways; those with the effect of `walk`, the walk in memory as it is now, are left out.
    void cached_options(std::uint64_t guest_physical, bool write, const EptWalk& walk,
                        std::vector<EptOption>& options);
    [[nodiscard]] bool settled(std::uint64_t guest_physical, bool write) const;
    [[nodiscard]] Provenance combine(const Provenance& first, const Provenance& second) const;

    const RetentiveTlb& tlb_;
    const PhysicalMemory& memory_;
    const TranslationContext& context_;
    std::uint64_t linear_address_;
    Access access_;
    PermittedOutcomes outcomes_;
    std::vector<Item> items_;  // all that were ever pushed; those from `next_` on are to be done
    std::size_t next_ = 0;
    const retentive::GuestPhysicalBucket* guest_physical_ = nullptr;  // of the current EP4TA
};

}  // namespace flatback::machine
