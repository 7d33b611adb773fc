#include "tools/bench_command.hpp"

#include <fmt/format.h>

#include <map>
#include <set>

#include "tools/bench_json.hpp"
#include "tools/bench_results.hpp"
#include "tools/bench_runs.hpp"
#include "tools/bench_table.hpp"
#include "tools/excerpt.hpp"
#include "tools/files.hpp"
#include "tools/progress.hpp"
#include "tools/stack_runs.hpp"

namespace flatback::tools {
namespace {

constexpr std::size_t lines_of_a_failed_run = 15;

void say(std::string_view text) {
    fmt::print(stderr, "flatback: {}\n", text);
}

// What a run lacks, the stage it had come to, and the end of what its guests printed.
void explain(const FinishedRun& run, const std::vector<std::string>& lacks) {
    for (const std::string& lack : lacks) say(lack);
    say(fmt::format("{}: the last stage that it reached: {}", run.name,
                    run.transcript.stages().empty() ? "none" : run.transcript.stages().back()));
    say(fmt::format("{}: the last lines on its serial port:", run.name));
    fmt::print(stderr, "{}\n", last_lines(run.transcript.text(), lines_of_a_failed_run));
}

}  // namespace

Result<ExitStatus> bench_command(const BenchOptions& options) {
    if (options.json_file) TRY(check_writable(*options.json_file));
    const LinuxGuest guest = TRY(prepare_linux_guest(say));
    const PeerGuest peer = TRY(prepare_peer_guest(guest));
    const std::vector<BenchRun> planned = bench_runs(guest, peer, options.with_kvm, options.limit);

    std::vector<QueuedRun> queue;
    for (const BenchRun& each : planned) queue.push_back(each.run);
    Progress progress;
    const auto finished = TRY(run_all(std::move(queue), progress.observer()));

    std::map<std::string, RunValues, std::less<>> values;
    std::set<std::string, std::less<>> failed;
    for (std::size_t index = 0; index < finished.size(); ++index) {
        const auto lacks = shortcomings(finished[index], planned[index].stages);
        if (!lacks.empty()) {
            failed.insert(finished[index].name);
            explain(finished[index], lacks);
        }
        values.emplace(finished[index].name, RunValues{finished[index].transcript});
    }
    std::vector<MissingValue> missing;
    const BenchResults results = bench_results(values, options.with_kvm, missing);
    for (const MissingValue& each : missing) {
        // What a run has not measured that failed as a whole needs no saying.
        if (!failed.contains(each.run)) say(fmt::format("{}: not measured: {}", each.run, each.key));
    }
    if (!failed.empty() || !missing.empty()) {
        return fail(
            ExitStatus::incomplete,
            "the benchmark is not complete, so there is no table: what is above is missing or went wrong");
    }
    if (options.json_file) {
        const std::string json = bench_json(results);
        TRY(replace_file(*options.json_file, std::as_bytes(std::span{json})));
    }
    fmt::print("{}", render_bench(results));
    return ExitStatus::success;
}

}  // namespace flatback::tools
