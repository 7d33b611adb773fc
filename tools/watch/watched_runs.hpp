// The runs whose windows are watched.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/ground/error.hpp"
#include "tools/watch/watch_report.hpp"

namespace flatback::tools {

// Linux as L1 and L2, in lat_ctx, or as that L2 boots; two L2s in turn on the bare L1; its probes for stale
// translations.
enum class WatchedGuest : std::uint8_t { linux_stack, linux_boot, bare, probes };
[[nodiscard]] constexpr bool is_linux(WatchedGuest guest) {
    return guest == WatchedGuest::linux_stack || guest == WatchedGuest::linux_boot;
}
[[nodiscard]] std::string_view name(WatchedGuest guest);

struct WatchRequest {
    std::vector<std::string> modes;  // of watched_modes; ept0 is of the Linux stack
    WatchedGuest guest = WatchedGuest::linux_stack;
    std::uint64_t window = 0;                 // instructions; 0: what suits the guest
    std::optional<std::filesystem::path> l0;  // in place of the one that was built
    const machine::TlbGeometry* geometry = nullptr;
    std::optional<std::uint64_t> clock_mhz;     // of Linux's processor; none: 100
    bool l0_records = false;                    // L0 traces its flushes, which are compared
    std::optional<std::filesystem::path> keep;  // a directory for the text of each window: MODE.N.txt
    std::chrono::seconds limit{1800};           // of each run
};

struct WatchedRuns {
    std::vector<WatchedMode> modes;  // in the order of the request
    std::vector<std::string> lacks;  // a line for each thing that went wrong
};

// Two at a time. Error: what kept one from starting, or interrupted.
[[nodiscard]] Result<WatchedRuns> watch_runs(const WatchRequest& request);

// What one run, or one kept text, showed.
[[nodiscard]] WatchedMode watched(std::string mode, const watch::Counts& counts,
                                  const watch::PhaseEstimate& phase, const watch::TaggedTlbs& tlbs);

}  // namespace flatback::tools
