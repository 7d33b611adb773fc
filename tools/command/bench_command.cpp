#include "tools/command/bench_command.hpp"

#include <fmt/format.h>

#include <iterator>
#include <optional>

#include "tools/bench/bench_report.hpp"
#include "tools/bench/bench_runs.hpp"
#include "tools/command/chosen_runs.hpp"
#include "tools/ground/about.hpp"
#include "tools/ground/output.hpp"
#include "tools/measure/measured_runs.hpp"
#include "tools/stack/peer_guest.hpp"
#include "tools/stack/progress.hpp"

namespace flatback::tools {
namespace {

// The peer's take longest, and begin.
std::vector<QueuedRun> runs_of(const PeerGuest* peer, const LinuxGuest& guest, std::chrono::seconds limit) {
    auto runs = bench_runs(peer, limit);
    auto ours = measured_runs(guest, limit);
    std::move(ours.begin(), ours.end(), std::back_inserter(runs));
    return runs;
}

}  // namespace

Result<ExitStatus> bench_command(const BenchOptions& options) {
    if (options.json_file) TRY(check_output(*options.json_file));
    // Before anything is downloaded for the runs: their names do not depend on it.
    const PeerGuest nobody;
    TRY(check_chosen(runs_of(options.with_kvm ? &nobody : nullptr, {}, options.limit), options.only,
                     options.with_kvm ? "" : "; more with --peer kvm"));
    const LinuxGuest guest = TRY(prepare_linux_guest(tell));
    std::optional<PeerGuest> peer;
    if (options.with_kvm) peer = TRY(prepare_peer_guest(guest));

    Progress progress;
    const auto finished = TRY(run_all(
        chosen(runs_of(peer ? &*peer : nullptr, guest, options.limit), options.only), progress.observer()));
    if (!options.only.empty()) return print_chosen(finished, bench_stages_of);

    std::string lacks = failures(finished, bench_stages_of);
    const Measurements measurements = collect(finished);
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
        TRY(write_output(*options.json_file, with_about(bench_json(measurements, options.with_kvm))));
    }
    fmt::print(text_stream(options.json_file), "{}", bench_table(measurements, options.with_kvm));
    return ExitStatus::success;
}

}  // namespace flatback::tools
