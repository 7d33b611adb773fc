#include "tools/command/processors_command.hpp"

#include <fmt/format.h>

#include <iterator>
#include <utility>
#include <vector>

#include "tools/command/chosen_runs.hpp"
#include "tools/ground/about.hpp"
#include "tools/ground/output.hpp"
#include "tools/image/linux_guest.hpp"
#include "tools/measure/measured_runs.hpp"
#include "tools/measure/smp_runs.hpp"
#include "tools/stack/peer_guest.hpp"
#include "tools/stack/progress.hpp"
#include "tools/table/smp_table.hpp"

namespace flatback::tools {

namespace {

std::vector<QueuedRun> processor_runs(const LinuxGuest& guest, const PeerGuest* peer, unsigned processors,
                                      std::chrono::seconds limit) {
    std::vector<QueuedRun> runs;
    // The peer's take longest, and begin.
    if (peer != nullptr) runs = smp_peer_runs(*peer, processors, limit);
    auto ours = smp_runs(guest, processors, limit);
    std::move(ours.begin(), ours.end(), std::back_inserter(runs));
    return runs;
}

Result<ExitStatus> report_processors(const std::vector<FinishedRun>& finished, unsigned processors,
                                     const std::optional<std::filesystem::path>& json_file) {
    std::string lacks = failures(finished, stages_of_smp);
    const SmpMeasurements measurements = collect_smp(finished, processors);
    if (lacks.empty()) {
        for (const std::string& key : missing_smp_values(measurements))
            lacks += fmt::format("flatback: not measured: {}\n", key);
    }
    if (!lacks.empty()) {
        fmt::print(stderr, "\n{}", lacks);
        return fail(ExitStatus::incomplete, incomplete_run);
    }
    fmt::print(text_stream(json_file), "{}", render_smp_table(measurements));
    if (json_file) TRY(write_output(*json_file, with_about(smp_json(measurements))));
    return ExitStatus::success;
}

}  // namespace

Result<ExitStatus> processors_command(const StackOptions& options) {
    if (options.json_file) TRY(check_output(*options.json_file));
    const LinuxGuest guest = TRY(prepare_linux_guest(tell));
    Progress progress;
    const auto finished =
        TRY(run_all(processor_runs(guest, nullptr, options.processors, options.limit), progress.observer()));
    return report_processors(finished, options.processors, options.json_file);
}

Result<ExitStatus> processors_bench_command(const BenchOptions& options) {
    if (options.json_file) TRY(check_output(*options.json_file));
    // Before anything is downloaded for the runs: their names do not depend on it.
    const PeerGuest nobody;
    TRY(check_chosen(processor_runs({}, &nobody, options.processors, options.limit), options.only));
    const LinuxGuest guest = TRY(prepare_linux_guest(tell));
    const PeerGuest peer = TRY(prepare_peer_processors_guest(guest));
    Progress progress;
    const auto finished =
        TRY(run_all(chosen(processor_runs(guest, &peer, options.processors, options.limit), options.only),
                    progress.observer()));
    if (!options.only.empty()) return print_chosen(finished, stages_of_smp);
    return report_processors(finished, options.processors, options.json_file);
}

}  // namespace flatback::tools
