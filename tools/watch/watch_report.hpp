// What windows of runs showed, for people and for programs.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "watch/follower.hpp"
#include "watch/phase.hpp"

namespace flatback::tools {

inline constexpr std::array<std::string_view, 4> watched_modes{"mapped", "single", "off", "ept0"};

struct WatchedMode {
    std::string mode;
    watch::Counts counts;                  // of the windows
    watch::PhaseEstimate phase;            // of what they stand for
    std::vector<std::string> stale;        // the first of them, a line each
    std::vector<std::string> unexplained;  // the same
};

// Of one access that a cached translation could have led elsewhere.
[[nodiscard]] std::string describe(const watch::StaleAccess& access);

// Nothing where no L2 entry was counted.
[[nodiscard]] std::optional<double> misses_per_l2_entry(const watch::PhaseEstimate& phase,
                                                        watch::Level level);
[[nodiscard]] std::optional<double> misses_per_l2_entry(const watch::PhaseEstimate& phase);
[[nodiscard]] std::optional<double> walk_references_per_l2_entry(const watch::PhaseEstimate& phase);

[[nodiscard]] std::string watch_table(std::span<const WatchedMode> modes);
[[nodiscard]] std::string watch_json(std::span<const WatchedMode> modes);

}  // namespace flatback::tools
