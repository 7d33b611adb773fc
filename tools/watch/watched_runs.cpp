#include "tools/watch/watched_runs.hpp"

#include <fmt/format.h>

#include <map>
#include <memory>
#include <variant>

#include "tools/emulator/elf_symbols.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/hexadecimal.hpp"
#include "tools/ground/output.hpp"
#include "tools/ground/paths.hpp"
#include "tools/stack/progress.hpp"
#include "tools/stack/stack_runs.hpp"
#include "tools/watch/window_watcher.hpp"

namespace flatback::tools {
namespace {

// Of a window of Linux, what the longest column needs for a round: sixteen processes, each with its 64 KB.
constexpr std::uint64_t linux_warming = 400'000;
constexpr std::uint64_t linux_window = 1'200'000;
// Timer ticks are L2 entries: a tenth of `flatback run`'s clock has ten times as many in the same work.
constexpr std::uint64_t linux_clock_mhz = 100;
// Of L2's boot, its begin and what follows: how often it comes out to a device between two windows.
constexpr std::uint64_t boot_window = 1'000'000;
constexpr std::uint64_t windows_of_boot = 4;
constexpr unsigned exits_between_windows = 100;
// What comes before the turns takes most of it: two VMCSs are written, each field that is not shadowed by an
// exit.
constexpr std::uint64_t bare_window = 130'000;
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
    } else if (request.guest == WatchedGuest::linux_boot) {
        usual = boot_window;
        plan.windows = windows_of_boot;
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
        // As `flatback run` boots it, but for L1's payloads and the clock.
        const std::string_view more = mode == "ept0" ? "payloads=off flatback.ept=0" : "payloads=off";
        run = request.guest == WatchedGuest::linux_boot
                  ? linux_l2_boot_run(mode, words, *guest, request.limit, exits_between_windows)
                  : linux_l2_run(mode, words, *guest, request.limit, "watch", {}, {});
        run.request.plan.guest_command_line += fmt::format(" {}", more);
        const std::uint64_t khz = request.clock_mhz.value_or(linux_clock_mhz) * 1000;
        run.request.instructions_per_second = khz * 1000;
        // Of two words for the same the last wins.
        run.request.plan.guest_command_line += fmt::format(" tsc_early_khz={}", khz);
    } else {
        run = bare_run(mode, words.c_str(),
                       request.guest == WatchedGuest::probes ? "check only=stale*"
                                                             : "bench only=two-vcpus iterations=2000",
                       request.limit);
    }
    if (request.l0) run.request.plan.l0 = *request.l0;
    return run;
}

// Where the bare L1 counts the checks that it has reported. L0 gives it the memory that it was linked for.
std::optional<std::uint64_t> progress_of_bare_l1() {
    const auto image = read_file(bare_l1_image());
    if (!image) return std::nullopt;
    return address_of_symbol(*image, "flatback_checks_reported");
}

// A stale access that came when so many checks had been reported was made for the next one.
std::vector<WatchedCheck> checks_of(const Transcript& transcript, const watch::StaleByProgress& stale) {
    std::vector<WatchedCheck> checks;
    for (const CheckRecord& record : transcript.checks()) {
        const auto found = stale.find(checks.size());
        checks.push_back({record.name, record.passed, found == stale.end() ? 0 : found->second});
    }
    return checks;
}

std::vector<std::string> stages_of(const WatchRequest& request) {
    if (is_linux(request.guest)) return {"l0", "l1-entry", "l1-user", "l2-user"};
    return {"l0", "l1-entry", "bare-l1"};
}

}  // namespace

std::string_view name(WatchedGuest guest) {
    switch (guest) {
        case WatchedGuest::linux_stack:
            return "linux";
        case WatchedGuest::linux_boot:
            return "boot";
        case WatchedGuest::bare:
            return "bare";
        case WatchedGuest::probes:
            return "probes";
    }
    return {};
}

WatchedMode watched(std::string mode, const watch::Counts& counts, const watch::PhaseEstimate& phase,
                    const watch::TaggedTlbs& tlbs) {
    WatchedMode result{std::move(mode), counts, phase, {}, {}, {}, {}};
    for (const auto& access : tlbs.stale_accesses()) result.stale.push_back(describe(access));
    for (const auto& access : tlbs.unexplained_accesses()) result.unexplained.push_back(describe(access));
    return result;
}

Result<WatchedRuns> watch_runs(const WatchRequest& request) {
    std::optional<LinuxGuest> guest;
    if (is_linux(request.guest)) {
        guest = TRY(prepare_linux_guest(tell));
    }
    std::map<std::string, std::unique_ptr<WindowWatcher>, std::less<>> watchers;
    std::vector<QueuedRun> runs;
    for (const std::string& mode : request.modes) {
        QueuedRun run = run_of(request, mode, guest);
        auto& watcher = watchers[mode];
        WindowPlan plan = plan_of(request);
        plan.l0_records = request.l0_records;
        if (!is_linux(request.guest)) plan.progress = progress_of_bare_l1();
        if (request.keep) plan.keep = *request.keep / (mode + ".");
        watcher = std::make_unique<WindowWatcher>(plan);
        run.request.dialogue = [&hears = *watcher](std::string_view bytes) { return hears.hear(bytes); };
        runs.push_back(std::move(run));
    }
    Progress progress;
    QueueObserver observer = progress.observer();
    observer.record = [&watchers, shown = observer.record](std::string_view run, const SerialRecord& record) {
        if (const auto* const text = std::get_if<TextRecord>(&record)) {
            WindowWatcher& watcher = *watchers.find(run)->second;
            const auto address = hexadecimal_number(text->text);
            if (text->key == "l0.exits_from_l2" && address) watcher.know_exit_counter(*address);
            if (text->key == "l0.vmcs01" && address) watcher.know_vmcs01(*address);
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
        if (!is_linux(request.guest))
            result.modes.back().checks = checks_of(run.transcript, watcher.tlbs().stale_by_progress());
    }
    return result;
}

}  // namespace flatback::tools
