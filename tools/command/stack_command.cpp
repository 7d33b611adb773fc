#include "tools/command/stack_command.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "tools/ground/about.hpp"
#include "tools/ground/output.hpp"
#include "tools/image/linux_guest.hpp"
#include "tools/measure/depths.hpp"
#include "tools/measure/lat_ctx.hpp"
#include "tools/measure/measured_runs.hpp"
#include "tools/stack/peer_guest.hpp"
#include "tools/stack/progress.hpp"
#include "tools/table/depth_table.hpp"
#include "tools/table/stack_json.hpp"
#include "tools/table/table.hpp"

namespace flatback::tools {
namespace {

Result<ExitStatus> measure_depths(const StackOptions& options) {
    const LinuxGuest guest = TRY(prepare_linux_guest(tell));
    const std::string_view beneath = options.above_kvm ? "KVM" : "";
    std::vector<QueuedRun> runs;
    if (options.above_kvm) {
        for (QueuedRun& run : runs_above_another(guest, options.limit))
            runs.push_back(TRY(above_peer(guest, std::move(run))));
    } else {
        runs = depth_runs(*options.depth, &guest, options.limit);
    }
    Progress progress;
    const auto finished = TRY(run_all(std::move(runs), progress.observer()));
    if (const auto missing = missing_of_depths(finished); !missing.empty()) {
        for (const std::string& each : missing) fmt::print(stderr, "flatback: {}\n", each);
        return fail(ExitStatus::incomplete,
                    "the run is not complete, so there is no table: what is above is missing or went wrong");
    }
    const auto depths =
        collect_depths(finished, options.above_kvm ? FaultsBeneath::of_kvm : FaultsBeneath::none);
    fmt::print(text_stream(options.json_file), "{}", render_depth_table(depths, beneath));
    if (options.json_file) TRY(write_output(*options.json_file, with_about(depth_json(depths, beneath))));
    const bool all_passed =
        std::ranges::all_of(depths, &std::vector<std::string>::empty, &DepthMeasurement::failed);
    return all_passed ? ExitStatus::success : ExitStatus::incomplete;
}

}  // namespace

Result<ExitStatus> stack_command(const StackOptions& options) {
    if (options.json_file) TRY(check_output(*options.json_file));
    if (options.depth || options.above_kvm) return measure_depths(options);
    const LinuxGuest guest = TRY(prepare_linux_guest(tell));
    Progress progress;
    const auto finished = TRY(run_all(measured_runs(guest, options.limit), progress.observer()));

    std::string lacks = failures(finished, stages_of);
    const Measurements measurements = collect(finished);
    // What a run that failed did not measure, its failure explains.
    if (lacks.empty()) {
        auto missing = missing_values(measurements);
        const auto more = missing_lat_ctx(measurements);
        missing.insert(missing.end(), more.begin(), more.end());
        for (const std::string& key : missing) lacks += fmt::format("flatback: not measured: {}\n", key);
    }
    if (!lacks.empty()) {
        fmt::print(stderr, "\n{}", lacks);
        return fail(ExitStatus::incomplete, incomplete_run);
    }
    fmt::print(text_stream(options.json_file), "{}", render_table(measurements));
    if (options.json_file) TRY(write_output(*options.json_file, with_about(stack_json(measurements))));
    return ExitStatus::success;
}

}  // namespace flatback::tools
