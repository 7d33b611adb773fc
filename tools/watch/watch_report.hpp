// What windows of runs showed, for people and for programs.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/watch/flush_records.hpp"
#include "watch/follower.hpp"
#include "watch/phase.hpp"

namespace flatback::tools {

inline constexpr std::array<std::string_view, 4> watched_modes{"mapped", "single", "off", "ept0"};

// One of the guest's checks, and the stale accesses that were made for it.
struct WatchedCheck {
    std::string name;
    bool passed = false;
    std::uint64_t stale = 0;
};

struct WatchedMode {
    std::string mode;
    watch::Counts counts;                  // of the windows
    watch::PhaseEstimate phase;            // of what they stand for
    std::vector<std::string> stale;        // the first of them, a line each
    std::vector<std::string> unexplained;  // the same
    std::optional<FlushCounts> flushes;    // what L0 recorded of them; nothing where it did not
    std::vector<WatchedCheck> checks;      // the guest's, in its order, where it makes checks
};

// Of one access that a cached translation could have led elsewhere.
[[nodiscard]] std::string describe(const watch::StaleAccess& access);

// Nothing where no L2 entry was counted.
[[nodiscard]] std::optional<double> misses_per_l2_entry(const watch::PhaseEstimate& phase,
                                                        watch::Level level);
[[nodiscard]] std::optional<double> misses_per_l2_entry(const watch::PhaseEstimate& phase);
// Nothing where no MOV to CR3 of L2's was counted.
[[nodiscard]] std::optional<double> misses_per_l2_switch(const watch::PhaseEstimate& phase);
[[nodiscard]] std::optional<double> walk_references_per_l2_entry(const watch::PhaseEstimate& phase);

// Whether every access and every flush was as it should be.
[[nodiscard]] bool is_good(const WatchedMode& mode);

[[nodiscard]] std::string watch_table(std::span<const WatchedMode> watched);
// `guest`: linux, bare, probes or file; `tlb`: the name of the geometry that counted misses.
[[nodiscard]] std::string watch_json(std::span<const WatchedMode> watched, std::string_view guest,
                                     std::string_view tlb);

}  // namespace flatback::tools
