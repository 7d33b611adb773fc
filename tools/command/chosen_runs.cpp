#include "tools/command/chosen_runs.hpp"

#include <fmt/format.h>

#include "tools/ground/printable.hpp"

namespace flatback::tools {

Result<> check_chosen(const std::vector<QueuedRun>& runs, std::string_view only, std::string_view more) {
    std::string names;
    for (const QueuedRun& run : runs) {
        if (run.name.find(only) != std::string::npos) return {};
        names += fmt::format("{}\"{}\"", names.empty() ? "" : ", ", run.name);
    }
    return fail(
        ExitStatus::usage,
        fmt::format("no run of the benchmark has \"{}\" in its name; there are: {}{}", only, names, more));
}

std::vector<QueuedRun> chosen(std::vector<QueuedRun> runs, std::string_view only) {
    std::erase_if(runs, [&](const QueuedRun& run) { return run.name.find(only) == std::string::npos; });
    return runs;
}

ExitStatus print_chosen(const std::vector<FinishedRun>& runs, const StagesOf& stages) {
    for (const FinishedRun& run : runs)
        fmt::print("{}:\n{}\n", run.name, printable_lines(run.transcript.text()));
    const std::string lacks = failures(runs, stages);
    fmt::print(stderr, "{}", lacks);
    return lacks.empty() ? ExitStatus::success : ExitStatus::incomplete;
}

}  // namespace flatback::tools
