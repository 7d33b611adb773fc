#include "tools/watch/watched_runs.hpp"

#include <fmt/format.h>

#include <map>
#include <memory>
#include <variant>

#include "tools/ground/hexadecimal.hpp"
#include "tools/stack/progress.hpp"
#include "tools/stack/stack_runs.hpp"
#include "tools/watch/window_watcher.hpp"

namespace flatback::tools {
namespace {

// Of a window of Linux, what the longest column needs for a round: sixteen processes, each with its 64 KB.
constexpr std::uint64_t linux_warming = 400'000;
constexpr std::uint64_t linux_window = 1'400'000;
constexpr std::uint64_t bare_window = 100'000;
// Of each of the three parts the first probes: their reports on the serial line take most of it.
constexpr std::uint64_t probes_window = 1'000'000;
constexpr std::uint64_t parts_of_probes = 3;

// Each column has four parts: timing one process, making the ring, timing the ring, writing its figures.
constexpr std::uint64_t parts_of_lat_ctx = 7 * 4;

WindowPlan plan_of(const WatchRequest& request) {
    WindowPlan plan{.instructions = request.window, .windows = 1, .geometry = request.geometry};
    std::uint64_t usual = bare_window;
    if (request.guest == WatchedGuest::linux_stack) {
        usual = linux_window;
        plan.windows = parts_of_lat_ctx;
        plan.warming = linux_warming;
    } else if (request.guest == WatchedGuest::probes) {
        usual = probes_window;
        plan.windows = parts_of_probes;
    }
    if (plan.instructions == 0) plan.instructions = usual;
    return plan;
}

QueuedRun run_of(const WatchRequest& request, const std::string& mode,
                 const std::optional<LinuxGuest>& guest) {
    const std::string words = fmt::format("nested-vpid={} log=quiet{}", mode == "ept0" ? "mapped" : mode,
                                          request.l0_records ? " trace=on" : "");
    QueuedRun run;
    if (guest) {
        // As `flatback run` boots it, but for L1's payloads.
        run = linux_l2_run(mode, words, *guest, request.limit, "watch", {},
                           mode == "ept0" ? "payloads=off flatback.ept=0" : "payloads=off");
    } else {
        run = bare_run(mode, words.c_str(),
                       request.guest == WatchedGuest::probes ? "check only=stale*"
                                                             : "bench only=two-vcpus iterations=2000",
                       request.limit);
    }
    if (request.l0) run.request.plan.l0 = *request.l0;
    return run;
}

std::vector<std::string> stages_of(const WatchRequest& request) {
    if (request.guest == WatchedGuest::linux_stack) return {"l0", "l1-entry", "l1-user", "l2-user"};
    return {"l0", "l1-entry", "bare-l1"};
}

}  // namespace

std::string_view name(WatchedGuest guest) {
    switch (guest) {
        case WatchedGuest::linux_stack:
            return "linux";
        case WatchedGuest::bare:
            return "bare";
        case WatchedGuest::probes:
            return "probes";
    }
    return {};
}

WatchedMode watched(std::string mode, const watch::Counts& counts, const watch::PhaseEstimate& phase,
                    const watch::TaggedTlbs& tlbs) {
    WatchedMode result{std::move(mode), counts, phase, {}, {}, {}};
    for (const auto& access : tlbs.stale_accesses()) result.stale.push_back(describe(access));
    for (const auto& access : tlbs.unexplained_accesses()) result.unexplained.push_back(describe(access));
    return result;
}

Result<WatchedRuns> watch_runs(const WatchRequest& request) {
    std::optional<LinuxGuest> guest;
    if (request.guest == WatchedGuest::linux_stack) {
        guest = TRY(
            prepare_linux_guest([](std::string_view text) { fmt::print(stderr, "flatback: {}\n", text); }));
    }
    std::map<std::string, std::unique_ptr<WindowWatcher>, std::less<>> watchers;
    std::vector<QueuedRun> runs;
    for (const std::string& mode : request.modes) {
        QueuedRun run = run_of(request, mode, guest);
        auto& watcher = watchers[mode];
        WindowPlan plan = plan_of(request);
        plan.l0_records = request.l0_records;
        if (request.keep) plan.keep = *request.keep / (mode + ".");
        watcher = std::make_unique<WindowWatcher>(plan);
        run.request.dialogue = [&hears = *watcher](std::string_view bytes) { return hears.hear(bytes); };
        runs.push_back(std::move(run));
    }
    Progress progress;
    QueueObserver observer = progress.observer();
    observer.record = [&watchers, shown = observer.record](std::string_view run, const SerialRecord& record) {
        if (const auto* const text = std::get_if<TextRecord>(&record);
            text != nullptr && text->key == "l0.vmcs01") {
            if (const auto address = hexadecimal_number(text->text))
                watchers.find(run)->second->know_vmcs01(*address);
        }
        if (shown) shown(run, record);
    };
    const auto finished = TRY(run_all(std::move(runs), observer));
    WatchedRuns result;
    for (const FinishedRun& run : finished) {
        for (const std::string& lack : shortcomings(run, stages_of(request))) result.lacks.push_back(lack);
        WindowWatcher& watcher = *watchers.at(run.name);
        const watch::Counts& counts = watcher.counts();
        if (!watcher.lack().empty()) result.lacks.push_back(watcher.lack());
        if (counts.windows == 0)
            result.lacks.push_back(fmt::format("{}: no window held an L2 entry that was counted", run.name));
        result.modes.push_back(watched(run.name, counts, watcher.phase(), watcher.tlbs()));
        if (request.l0_records) result.modes.back().flushes = watcher.flushes();
    }
    return result;
}

}  // namespace flatback::tools
