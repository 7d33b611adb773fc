#include "tools/bench_command.hpp"

#include <fmt/format.h>

#include <iterator>
#include <optional>

#include "tools/bench_report.hpp"
#include "tools/bench_runs.hpp"
#include "tools/files.hpp"
#include "tools/peer_guest.hpp"
#include "tools/progress.hpp"
#include "tools/stack_command.hpp"

namespace flatback::tools {
namespace {

void say(std::string_view text) {
    fmt::print(stderr, "flatback: {}\n", text);
}

}  // namespace

Result<ExitStatus> bench_command(const BenchOptions& options) {
    if (options.json_file) TRY(check_writable(*options.json_file));
    const LinuxGuest guest = TRY(prepare_linux_guest(say));
    std::optional<PeerGuest> peer;
    if (options.with_kvm) peer = TRY(prepare_peer_guest(guest));

    // The peer's take longest, and begin.
    auto runs = bench_runs(peer ? &*peer : nullptr, options.limit);
    auto ours = stack_runs(guest, options.limit);
    std::move(ours.begin(), ours.end(), std::back_inserter(runs));
    std::erase_if(runs,
                  [&](const QueuedRun& run) { return run.name.find(options.only) == std::string::npos; });
    if (runs.empty())
        return fail(ExitStatus::usage,
                    fmt::format("no run of the benchmark has {} in its name", options.only));
    Progress progress;
    const auto finished = TRY(run_all(std::move(runs), progress.observer()));

    std::string lacks = failures(finished, bench_stages_of);
    const Measurements measurements = collect(finished);
    if (!options.only.empty()) {
        for (const FinishedRun& run : finished) fmt::print("{}:\n{}\n", run.name, run.transcript.text());
        fmt::print(stderr, "{}", lacks);
        return lacks.empty() ? ExitStatus::success : ExitStatus::incomplete;
    }
    // What a run that failed did not measure, its failure explains.
    if (lacks.empty()) {
        for (const std::string& key : missing_bench_values(measurements, options.with_kvm))
            lacks += fmt::format("flatback: not measured: {}\n", key);
    }
    if (!lacks.empty()) {
        fmt::print(stderr, "\n{}", lacks);
        return fail(
            ExitStatus::incomplete,
            "the benchmark is not complete, so there is no table: what is above is missing or went wrong");
    }
    if (options.json_file) {
        const std::string json = bench_json(measurements, options.with_kvm);
        TRY(replace_file(*options.json_file, std::as_bytes(std::span{json})));
    }
    fmt::print("{}", bench_table(measurements, options.with_kvm));
    return ExitStatus::success;
}

}  // namespace flatback::tools
