#include "tools/command/processors_command.hpp"

#include <fmt/format.h>

#include "tools/ground/about.hpp"
#include "tools/ground/output.hpp"
#include "tools/image/linux_guest.hpp"
#include "tools/measure/measured_runs.hpp"
#include "tools/measure/smp_runs.hpp"
#include "tools/stack/progress.hpp"
#include "tools/table/smp_table.hpp"

namespace flatback::tools {

Result<ExitStatus> processors_command(const StackOptions& options) {
    if (options.json_file) TRY(check_output(*options.json_file));
    const LinuxGuest guest =
        TRY(prepare_linux_guest([](std::string_view text) { fmt::print(stderr, "flatback: {}\n", text); }));
    Progress progress;
    const auto finished =
        TRY(run_all(smp_runs(guest, options.processors, options.limit), progress.observer()));
    std::string lacks = failures(finished, stages_of_smp);
    const SmpMeasurements measurements = collect_smp(finished, options.processors);
    if (lacks.empty()) {
        for (const std::string& key : missing_smp_values(measurements))
            lacks += fmt::format("flatback: not measured: {}\n", key);
    }
    if (!lacks.empty()) {
        fmt::print(stderr, "\n{}", lacks);
        return fail(ExitStatus::incomplete, incomplete_run);
    }
    fmt::print(text_stream(options.json_file), "{}", render_smp_table(measurements));
    if (options.json_file) TRY(write_output(*options.json_file, with_about(smp_json(measurements))));
    return ExitStatus::success;
}

}  // namespace flatback::tools
