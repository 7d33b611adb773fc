// The accesses of a real run, on the machine's two TLBs.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "machine/geometric/geometric_tlb.hpp"
#include "machine/memory/physical_memory.hpp"
#include "machine/retentive/retentive_tlb.hpp"

namespace flatback::watch {

/// An access that a translation cached earlier could have led elsewhere.
struct StaleAccess {
    std::uint64_t tick = 0;
    std::uint64_t linear = 0;
    std::uint64_t physical = 0;  // where it went; with `refused` nowhere: it was an EPT violation
    bool refused = false;
    machine::PermittedOutcome other{};
    std::uint64_t other_made_at = 0;  // tick
};

/// Stale accesses by what the guest was about (`TaggedTlbs::set_progress`).
using StaleByProgress = std::map<std::uint64_t, std::uint64_t>;

/// Both TLBs, and as much of memory as page walks have shown. The paging structures in it are the emulated
/// processor's: each walk that the emulator prints is copied, and each store to a page that holds structures.
class TaggedTlbs {
public:
    explicit TaggedTlbs(const machine::TlbGeometry& geometry);

    /// Nothing is cached, and nothing is known of memory.
    void reset();
    /// The tick of what follows.
    void set_tick(std::uint64_t tick) { tick_ = tick; }

    /// A number by which the guest says how far it has come; nothing: not known.
    void set_progress(std::optional<std::uint64_t> progress) { progress_ = progress; }

    /// A walk has read this entry.
    void saw_structure(std::uint64_t address, std::uint64_t entry);
    /// A walk has read this entry, of the root in use under `vpid`.
    void saw_root_entry(std::uint16_t vpid, std::uint64_t address, std::uint64_t entry);
    void saw_store(std::uint64_t physical, unsigned length, const std::array<std::uint64_t, 8>& value);

    /// An access of `kind` went to `physical`.
    void access(const machine::TranslationContext& context, std::uint64_t linear, std::uint64_t physical,
                machine::AccessKind kind);
    /// An access was refused by EPT (exit reason 48).
    void refused(const machine::TranslationContext& context, std::uint64_t linear, machine::AccessKind kind);

    void invalidate(const machine::Invalidation& what);
    /// For what the trace does not say exactly: `least` is all that has surely gone, `most` all that may
    /// have. The TLB that counts misses forgets the former, the one that looks for stale translations the
    /// latter.
    void invalidate(const machine::Invalidation& least, const machine::Invalidation& most);

    [[nodiscard]] const machine::TlbCounters& counters() const { return geometric_.counters(); }
    [[nodiscard]] std::uint64_t stale() const { return stale_; }
    /// Of them, those that came while the guest's progress was known.
    [[nodiscard]] const StaleByProgress& stale_by_progress() const { return stale_by_progress_; }
    /// Accesses whose place the structures that were seen do not explain.
    [[nodiscard]] std::uint64_t unexplained() const { return unexplained_; }
    /// The first of them.
    [[nodiscard]] const std::vector<StaleAccess>& stale_accesses() const { return stale_accesses_; }
    [[nodiscard]] const std::vector<StaleAccess>& unexplained_accesses() const {
        return unexplained_accesses_;
    }

private:
    void complete_root(const machine::TranslationContext& context, std::uint64_t linear,
                       std::uint64_t physical);
    void judge(std::uint64_t linear, std::uint64_t physical, bool refused, const machine::Outcome& outcome);

    const machine::TlbGeometry* geometry_;
    machine::PhysicalMemory memory_;
    std::unordered_set<std::uint64_t> structure_pages_;
    std::uint64_t last_structure_page_ = ~std::uint64_t{0};
    // The last entry seen at each place of a root, by VPID and place, and which places of which roots are
    // known.
    std::unordered_map<std::uint32_t, std::uint64_t> root_entries_;
    std::unordered_set<std::uint64_t> known_root_entries_;
    machine::PageWalk walk_{};
    machine::RetentiveTlb retentive_;
    machine::GeometricTlb geometric_;
    std::uint64_t tick_ = 0;
    std::optional<std::uint64_t> progress_{};
    std::uint64_t stale_ = 0;
    StaleByProgress stale_by_progress_;
    std::uint64_t unexplained_ = 0;
    std::vector<StaleAccess> stale_accesses_;
    std::vector<StaleAccess> unexplained_accesses_;
};

}  // namespace flatback::watch
