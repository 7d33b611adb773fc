#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "../translation/page_walk.hpp"
#include "../translation/tlb.hpp"
#include "entries.hpp"
#include "permitted.hpp"

namespace flatback::machine {

class RetentiveEnumerator;

/// The TLB that forgets nothing: an entry goes only when a row of the architecture's rules says that it must.
/// Several entries for one address (what memory said at different times) live side by side. For an access it
/// can say every outcome that a processor may give it now: retaining is never an error here, so an outcome
/// that software cannot bear shows a missing or misdirected invalidation.
///
/// What it does not do: fetch on its own. A speculative fetch is an access that the program makes
/// (`prefetch`).
class RetentiveTlb final : public Tlb {
public:
    /// Which of the permitted outcomes an access has.
    enum class Resolution : std::uint8_t {
        memory,  // that of the structures in memory: what a processor with an empty TLB does
        oldest,  // that of the oldest entry retained
    };

    struct Options {
        Resolution resolution = Resolution::memory;
        /// Past this many entries `access` throws `LimitReached`.
        std::size_t entry_limit = std::size_t{1} << 20;
    };

    RetentiveTlb() : RetentiveTlb(Options{}) {}
    explicit RetentiveTlb(const Options& options) : options_(options) {}

    Outcome access(PhysicalMemory& memory, const TranslationContext& context, std::uint64_t linear_address,
                   Access access) override;
    void invalidate(const Invalidation& what) override;
    void reset() override;
    [[nodiscard]] std::size_t size() const override { return size_; }

    /// Every outcome that this access may have now. Changes nothing.
    [[nodiscard]] PermittedOutcomes permitted(const PhysicalMemory& memory, const TranslationContext& context,
                                              std::uint64_t linear_address, Access access) const;

    /// What the processor may do at any time: makes the access's entries without its effects. It sets no
    /// dirty flag, and raises no fault; accessed flags are set as by a load.
    void prefetch(PhysicalMemory& memory, const TranslationContext& context, std::uint64_t linear_address,
                  Access access);

    /// The permitted outcomes of the last access, that of the structures in memory first; empty where there
    /// was one only.
    [[nodiscard]] const PermittedOutcomes& choices() const noexcept { return choices_; }

    /// Entries made from now on say that they were made at this step.
    void set_step(std::uint64_t step) noexcept { step_ = step; }

    /// One line for each entry held, in a fixed order.
    [[nodiscard]] std::vector<std::string> describe_entries() const;

private:
    friend class RetentiveEnumerator;

    struct Memo {
        std::uint64_t page = ~std::uint64_t{0};
        std::uint64_t context_serial = 0;
        std::uint64_t tlb_version = 0;
        std::uint64_t memory_version = 0;
        std::uint64_t host_page = 0;
    };
    /// A guest-physical page whose every cached translation says what the EPT structures in memory say, and
    /// for which all that a walk would cache is held: nothing is to be looked up for it.
    struct Settled {
        std::uint64_t page = ~std::uint64_t{0};  // bit 0: for a write
        std::uint64_t eptp = 0;
        std::uint64_t version = 0;
        std::uint64_t memory_version = 0;

        friend bool operator==(const Settled&, const Settled&) = default;
    };

    [[nodiscard]] const retentive::LinearBucket* find(const retentive::LinearTag& tag) const;
    [[nodiscard]] const retentive::GuestPhysicalBucket* find_guest_physical(std::uint64_t ep4ta) const;
    void insert_walk(const PhysicalMemory& memory, const TranslationContext& context,
                     std::uint64_t linear_address, const PageWalk& walk, bool wrote);
    void insert_ept_walk(const PhysicalMemory& memory, const EptContext& ept, std::uint64_t guest_physical,
                         const EptWalk& walk, bool write, bool wrote);
    void insert_page(retentive::LinearBucket& bucket, std::uint64_t linear_address, PageSize size,
                     const retentive::PageEntry& entry);
    void insert_structure(retentive::LinearBucket& bucket, std::uint64_t key,
                          const retentive::StructureEntry& entry);
    [[nodiscard]] Settled settled_now(const PhysicalMemory& memory, const EptContext& ept,
                                      std::uint64_t guest_physical, bool write) const;
    [[nodiscard]] bool is_settled(const Settled& place) const {
        return settled_[settled_index(place)] == place;
    }
    [[nodiscard]] static std::size_t settled_index(const Settled& place) {
        return ((place.page >> 12) ^ (place.page >> 21) ^ (place.page << 5) ^ (place.eptp >> 12)) % 256;
    }
    void inserted();
    void inserted_guest_physical() {
        ++guest_physical_version_;
        inserted();
    }
    void drop(const LinearScope& scope);
    void drop(const GuestPhysicalScope& scope);
    static std::size_t drop_from(const LinearScope& scope, retentive::LinearBucket& bucket);
    void keep_found(const RetentiveEnumerator& enumerator, const TranslationContext& context,
                    std::uint64_t linear_address);
    void after_fault(const TranslationContext& context, std::uint64_t linear_address, const Outcome& outcome);

    Options options_;
    std::unordered_map<retentive::LinearTag, retentive::LinearBucket, retentive::LinearTagHash> linear_;
    std::unordered_map<std::uint64_t, retentive::GuestPhysicalBucket> guest_physical_;
    std::size_t size_ = 0;
    std::uint64_t step_ = 0;
    std::uint64_t version_ = 1;
    std::uint64_t guest_physical_version_ = 1;

    // Repeats of an access that has one permitted outcome are answered from here.
    TranslationContext last_context_{};
    std::uint64_t context_serial_ = 1;
    std::array<Memo, 256> memos_{};
    std::array<Settled, 256> settled_{};
    PageWalk walk_{};
    PermittedOutcomes choices_;
};

}  // namespace flatback::machine
