#include "tools/check/watch_tests.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "tools/watch/watched_runs.hpp"

namespace flatback::tools {
namespace {

constexpr std::chrono::seconds limit{240};

// How many misses a L2 entry may cost on the bare L1, whose pages are far fewer than a TLB holds: those of
// the first touch where every tag keeps its own, and those of L1 and of L2 again where both are dropped at
// each entry and exit. Ticks repeat, and so do windows.
struct Bounds {
    std::string_view mode;
    double least;
    double most;
};
constexpr std::array bounds{Bounds{"mapped", 0, 1.2}, Bounds{"single", 1.2, 3}, Bounds{"off", 3, 8}};

std::string faults(const WatchedRuns& runs, const WatchedMode& mode) {
    std::string text;
    for (const std::string& lack : runs.lacks) text += lack + "\n";
    if (mode.counts.stale != 0) text += fmt::format("{} stale accesses\n", mode.counts.stale);
    for (const std::string& line : mode.stale) text += line + "\n";
    if (mode.counts.unexplained != 0)
        text += fmt::format("{} accesses are not explained\n", mode.counts.unexplained);
    for (const std::string& line : mode.unexplained) text += line + "\n";
    return text;
}

Result<WatchedRuns> watch_bare(WatchedGuest guest, std::vector<std::string> modes) {
    WatchRequest request;
    request.modes = std::move(modes);
    request.guest = guest;
    request.geometry = machine::find_geometry("skylake-x");
    request.limit = limit;
    return watch_runs(request);
}

Result<> watch_turns(TestReport& report) {
    std::vector<std::string> modes;
    const auto name = [](std::string_view mode) { return fmt::format("watch.bare.{}", mode); };
    for (const Bounds& bound : bounds) {
        if (report.selects(name(bound.mode))) modes.emplace_back(bound.mode);
    }
    if (modes.empty()) return {};
    const WatchedRuns runs = TRY(watch_bare(WatchedGuest::bare, modes));
    for (const WatchedMode& mode : runs.modes) {
        const Bounds& bound = *std::ranges::find(bounds, mode.mode, &Bounds::mode);
        std::string wrong = faults(runs, mode);
        const auto misses = misses_per_l2_entry(mode.phase);
        if (!misses || *misses < bound.least || *misses > bound.most)
            wrong += fmt::format("{:.2f} misses a L2 entry, not {} to {}\n", misses.value_or(-1), bound.least,
                                 bound.most);
        report.add(name(mode.mode), wrong.empty(), wrong);
    }
    return {};
}

Result<> watch_probes(TestReport& report) {
    constexpr std::string_view name = "watch.probes.mapped";
    if (!report.selects(name)) return {};
    const WatchedRuns runs = TRY(watch_bare(WatchedGuest::probes, {"mapped"}));
    const std::string wrong = faults(runs, runs.modes.front());
    report.add(name, wrong.empty(), wrong);
    return {};
}

}  // namespace

Result<> run_watch_tests(TestReport& report) {
    TRY(watch_turns(report));
    return watch_probes(report);
}

}  // namespace flatback::tools
