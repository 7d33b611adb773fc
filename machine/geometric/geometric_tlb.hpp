#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "machine/geometric/geometry.hpp"
#include "machine/geometric/walk_memory.hpp"
#include "machine/geometric/way_array.hpp"
#include "machine/translation/tlb.hpp"

namespace flatback::machine {

/// What a `GeometricTlb` counted since it was made or `reset_counters` was called.
struct TlbCounters {
    std::uint64_t accesses = 0;
    std::uint64_t first_level_misses = 0;
    /// Accesses that neither level served: each is a walk.
    std::uint64_t misses = 0;
    /// Entries of paging structures and EPT that walks read, paging-structure caches at work.
    std::uint64_t walk_references = 0;
    std::uint64_t cycles = 0;

    TlbCounters& operator+=(const TlbCounters& other);
    friend TlbCounters operator-(TlbCounters a, const TlbCounters& b);
    friend bool operator==(const TlbCounters&, const TlbCounters&) = default;
};

/// A TLB with the sets, ways and levels of a named processor: it forgets as one does, and counts what that
/// costs. Its paging-structure caches shorten walks in the count; what a walk finds is always what memory
/// says.
class GeometricTlb final : public Tlb {
public:
    explicit GeometricTlb(const TlbGeometry& geometry);

    Outcome access(PhysicalMemory& memory, const TranslationContext& context, std::uint64_t linear_address,
                   Access access) override;
    void invalidate(const Invalidation& what) override;
    void reset() override;
    [[nodiscard]] std::size_t size() const override;

    [[nodiscard]] const TlbCounters& counters() const noexcept { return counters_; }
    void reset_counters() noexcept { counters_ = {}; }
    [[nodiscard]] const TlbGeometry& geometry() const noexcept { return geometry_; }

private:
    using Tag = geometric::Tag;

    /// A whole translation, in eight bytes.
    struct Translation {
        std::uint64_t host_frame : 40 = 0;  // bits 51:12 of the host page's address
        std::uint64_t writable : 1 = 0;
        std::uint64_t user : 1 = 0;
        std::uint64_t execute_disable : 1 = 0;
        std::uint64_t ept_rights : 3 = ept_all_rights;
        std::uint64_t writable_now : 1 = 0;  // both dirty flags that are kept are set
        std::uint64_t structure_size : 2 = 0;
        // GCC 12 copies a member without an address of its own only as far as it believes its bit-fields to
        // reach, and leaves out the last one's upper bit.
        std::uint64_t rest : 15 = 0;
    };
    struct Nothing {};
    using Pages = geometric::WayArray<Translation>;
    using Structures = geometric::WayArray<Nothing>;

    [[nodiscard]] bool serves(const Translation& translation, const TranslationContext& context,
                              Access access) const noexcept;
    Outcome walk(PhysicalMemory& memory, const TranslationContext& context, std::uint64_t linear_address,
                 Access access, bool absent);
    [[nodiscard]] unsigned count_references(std::uint64_t linear_address, const geometric::Walked& walk);
    [[nodiscard]] unsigned count_ept_references(std::uint64_t guest_physical, const geometric::EptRead& read);
    void keep(std::uint64_t linear_address, Access access, const geometric::Walked& walk, bool absent);
    void use_context(const TranslationContext& context);
    [[nodiscard]] std::uint64_t ept_number(std::uint64_t ep4ta);
    void drop(const LinearScope& scope);
    void drop(const GuestPhysicalScope& scope);

    TlbGeometry geometry_;
    TlbCounters counters_;
    std::array<Pages, 3> data_;
    std::array<Pages, 3> instruction_;
    Pages second_;
    Pages second_1g_;
    std::array<Structures, 3> structures_;  // by level of the entry, less 2
    std::array<Structures, 3> ept_structures_;
    Structures guest_physical_;

    unsigned sizes_held_ = 0;  // bit N: a page of size N was put in since the last reset
    geometric::WalkMemory walks_;
    TranslationContext context_{};  // the last one, of tag_ and global_tag_
    Tag tag_ = 0;
    Tag global_tag_ = 0;
    std::vector<std::uint64_t> ep4tas_;  // number N is ep4tas_[N - 1]
    geometric::Walked walk_{};
};

}  // namespace flatback::machine
