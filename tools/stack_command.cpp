#include "tools/stack_command.hpp"

#include <fmt/format.h>

#include "tools/files.hpp"
#include "tools/measurements.hpp"
#include "tools/progress.hpp"
#include "tools/stack_json.hpp"
#include "tools/stack_runs.hpp"
#include "tools/table.hpp"

namespace flatback::tools {
namespace {

const std::vector<std::string> linux_stages{"l0", "l1-entry", "l1-user", "l2"};
const std::vector<std::string> bare_stages{"l0", "l1-entry", "bare-l1"};
constexpr std::string_view bare_name = "bare L1";
constexpr std::string_view bare_no_shadow_name = "bare L1, no shadow VMCS";
constexpr std::string_view bare_trace_name = "bare L1, trace";

Result<std::vector<QueuedRun>> plan_runs(const StackOptions& options, void (*say)(std::string_view)) {
    const LinuxGuest guest = TRY(prepare_linux_guest(say));
    std::vector<QueuedRun> runs;
    for (const std::string_view mode : modes) {
        runs.push_back(linux_run(std::string{mode}, fmt::format("nested-vpid={} log=quiet", mode), guest,
                                 options.limit));
    }
    runs.push_back(bare_run(std::string{bare_name}, "nested-vpid=mapped shadow-vmcs=on log=quiet", "bench",
                            options.limit));
    runs.push_back(bare_run(std::string{bare_no_shadow_name}, "nested-vpid=mapped shadow-vmcs=off log=quiet",
                            "bench", options.limit));
    runs.push_back(bare_run(std::string{bare_trace_name}, "nested-vpid=mapped trace=on log=quiet",
                            "bench only=trace", options.limit));
    return runs;
}

Measurements collect(const std::vector<FinishedRun>& runs) {
    Measurements measurements;
    for (const FinishedRun& run : runs) {
        RunValues values{run.transcript};
        if (run.name == bare_name) {
            measurements.bare = std::move(values);
        } else if (run.name == bare_no_shadow_name) {
            measurements.bare_no_shadow = std::move(values);
        } else if (run.name == bare_trace_name) {
            measurements.bare_trace = std::move(values);
        } else {
            measurements.linux_by_mode.emplace(run.name, std::move(values));
        }
    }
    return measurements;
}

}  // namespace

Result<ExitStatus> stack_command(const StackOptions& options) {
    if (options.json_file) TRY(check_writable(*options.json_file));
    auto runs =
        TRY(plan_runs(options, [](std::string_view text) { fmt::print(stderr, "flatback: {}\n", text); }));
    Progress progress;
    const auto finished = TRY(run_all(std::move(runs), progress.observer()));

    std::vector<std::string> lacks;
    for (const FinishedRun& run : finished) {
        const bool bare = run.name.starts_with(bare_name);
        const auto more = shortcomings(run, bare ? bare_stages : linux_stages);
        lacks.insert(lacks.end(), more.begin(), more.end());
    }
    const Measurements measurements = collect(finished);
    for (const std::string& key : missing_values(measurements))
        lacks.push_back(fmt::format("not measured: {}", key));

    fmt::print("{}", render_table(measurements));
    if (options.json_file) TRY(write_file(*options.json_file, stack_json(measurements)));
    if (lacks.empty()) return ExitStatus::success;
    fmt::print(stderr, "\n");
    for (const std::string& lack : lacks) fmt::print(stderr, "flatback: {}\n", lack);
    return fail(ExitStatus::incomplete, "the run is not complete: what is above is missing or went wrong");
}

}  // namespace flatback::tools
