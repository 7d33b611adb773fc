#include "tools/command/two_vms_command.hpp"

#include <fmt/format.h>

#include "tools/check/two_vms.hpp"
#include "tools/ground/about.hpp"
#include "tools/ground/output.hpp"
#include "tools/stack/progress.hpp"
#include "tools/stack/stack_runs.hpp"

namespace flatback::tools {

Result<ExitStatus> two_vms_command(const TwoVmsOptions& options) {
    if (options.json_file) TRY(check_output(*options.json_file));
    std::FILE* const text = text_stream(options.json_file);
    // The memory of L0 that no L1 may reach is twice as large, and each has half a processor.
    const std::string first = "check limit=30";
    const std::string second = fmt::format("check limit=30 emulator=bochs {}", second_vm_skips);
    Progress progress;
    std::vector<QueuedRun> runs;
    runs.push_back(two_vms_run("two-vms", first, second, options.limit));
    const auto finished = TRY(run_all(std::move(runs), progress.observer()));
    const TwoVms result = two_vms_of(finished.front().transcript);
    std::string lacks = what_two_vms_lack(result);
    if (const auto& outcome = finished.front().outcome; outcome.ending != Ending::shutdown)
        lacks = describe(outcome, finished.front().transcript);
    fmt::print(text, "{}", two_vms_text(result));
    if (!lacks.empty()) fmt::print(stderr, "flatback: {}\n", lacks);
    if (options.json_file) TRY(write_output(*options.json_file, with_about(two_vms_json(result))));
    return lacks.empty() ? ExitStatus::success : ExitStatus::incomplete;
}

}  // namespace flatback::tools
