// A phase of a run, of which only windows were seen.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "watch/follower.hpp"

namespace flatback::watch {

/// What there was in the whole phase, as far as its windows tell. Each was taken at the begin of a part of
/// the phase that is much alike from its begin to its end, and stands for all of it: timing switches has few
/// VM entries and many translations between two of them, writing to a serial line is the other way round.
class PhaseEstimate {
public:
    struct OfLevel {
        double entries = 0;
        double mov_to_cr3 = 0;
        double misses = 0;
        double walk_references = 0;
    };

    struct Part {
        std::uint64_t ticks = 0;
        std::optional<std::uint64_t> l2_entries;  // where somebody counted them all
        WindowCounts window;
    };

    /// A window that stands for itself alone.
    void add(const WindowCounts& window) { add({window.ticks, std::nullopt, window}); }
    /// A window that stands for a part. One in which nothing was counted stands for nothing.
    void add(const Part& part) { parts_.push_back(part); }

    /// L2 does what it does as time goes by. What L0 and L1 do comes with entries into L2: where those of the
    /// part are known it is so much for each, as in its window, or, if that has few, as in all such windows.
    /// (A window that shows one timer's tick or none says little of how many there were.)
    [[nodiscard]] OfLevel of(Level level) const {
        OfLevel sum;
        const WindowCounts sparse = of_sparse_windows();
        for (const Part& part : parts_) {
            if (part.window.ticks == 0) continue;
            const WindowCounts* shown = &part.window;
            double weight = static_cast<double>(part.ticks) / static_cast<double>(part.window.ticks);
            if (part.l2_entries && level != Level::l2) {
                if (is_sparse(part)) shown = &sparse;
                if (entries_of(*shown) == 0) continue;
                weight = static_cast<double>(*part.l2_entries) / static_cast<double>(entries_of(*shown));
            }
            const LevelCounts& counts = shown->levels[static_cast<std::size_t>(level)];
            sum.entries += part.l2_entries && level == Level::l2
                               ? static_cast<double>(*part.l2_entries)
                               : weight * static_cast<double>(counts.entries);
            sum.mov_to_cr3 += weight * static_cast<double>(counts.mov_to_cr3);
            sum.misses += weight * static_cast<double>(counts.tlb.misses);
            sum.walk_references += weight * static_cast<double>(counts.tlb.walk_references);
        }
        return sum;
    }

    /// Of the parts that windows stand for.
    [[nodiscard]] std::uint64_t ticks() const {
        std::uint64_t sum = 0;
        for (const Part& part : parts_)
            if (part.window.ticks != 0) sum += part.ticks;
        return sum;
    }
    [[nodiscard]] std::uint64_t empty_windows() const {
        std::uint64_t count = 0;
        for (const Part& part : parts_) count += part.window.ticks == 0 ? 1 : 0;
        return count;
    }
    /// In their order, empty ones with them.
    [[nodiscard]] const std::vector<Part>& parts() const { return parts_; }

private:
    static constexpr std::uint64_t enough_entries = 20;

    [[nodiscard]] static std::uint64_t entries_of(const WindowCounts& window) {
        return window.levels[static_cast<std::size_t>(Level::l2)].entries;
    }
    [[nodiscard]] static bool is_sparse(const Part& part) {
        return part.l2_entries && part.window.ticks != 0 && entries_of(part.window) < enough_entries;
    }
    [[nodiscard]] WindowCounts of_sparse_windows() const {
        WindowCounts sum;
        for (const Part& part : parts_) {
            if (!is_sparse(part)) continue;
            for (std::size_t level = 0; level < sum.levels.size(); ++level) {
                sum.levels[level].entries += part.window.levels[level].entries;
                sum.levels[level].mov_to_cr3 += part.window.levels[level].mov_to_cr3;
                sum.levels[level].tlb += part.window.levels[level].tlb;
            }
        }
        return sum;
    }
    std::vector<Part> parts_;
};

}  // namespace flatback::watch
