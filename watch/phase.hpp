// A phase of a run, of which only windows were seen.
#pragma once

#include <array>
#include <cstdint>

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

    /// A window that stands for itself alone.
    void add(const WindowCounts& window) { add(window, window.ticks); }
    /// A window that stands for a part of so many ticks. One in which nothing was counted stands for nothing.
    void add(const WindowCounts& window, std::uint64_t part_ticks) {
        if (window.ticks == 0) {
            ++empty_windows_;
            return;
        }
        const double weight = static_cast<double>(part_ticks) / static_cast<double>(window.ticks);
        ticks_ += part_ticks;
        for (std::size_t level = 0; level < levels_.size(); ++level) {
            levels_[level].entries += weight * static_cast<double>(window.levels[level].entries);
            levels_[level].mov_to_cr3 += weight * static_cast<double>(window.levels[level].mov_to_cr3);
            levels_[level].misses += weight * static_cast<double>(window.levels[level].tlb.misses);
            levels_[level].walk_references +=
                weight * static_cast<double>(window.levels[level].tlb.walk_references);
        }
    }

    [[nodiscard]] const OfLevel& of(Level level) const { return levels_[static_cast<std::size_t>(level)]; }
    /// Of the parts that windows stand for.
    [[nodiscard]] std::uint64_t ticks() const { return ticks_; }
    [[nodiscard]] std::uint64_t empty_windows() const { return empty_windows_; }

private:
    std::array<OfLevel, 3> levels_{};
    std::uint64_t ticks_ = 0;
    std::uint64_t empty_windows_ = 0;
};

}  // namespace flatback::watch
