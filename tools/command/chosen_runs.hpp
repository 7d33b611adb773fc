// `--only TEXT` of commands that make several runs: those whose name holds the text, and what they print in
// place of a table.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/ground/error.hpp"
#include "tools/measure/measured_runs.hpp"
#include "tools/stack/run_queue.hpp"

namespace flatback::tools {

// Error: usage, with the names, where none of the runs is chosen; `more` tells of others that there could be.
[[nodiscard]] Result<> check_chosen(const std::vector<QueuedRun>& runs, std::string_view only,
                                    std::string_view more = {});

[[nodiscard]] std::vector<QueuedRun> chosen(std::vector<QueuedRun> runs, std::string_view only);

// Prints what each has printed on its serial port, and what it lacks: then incomplete.
[[nodiscard]] ExitStatus print_chosen(const std::vector<FinishedRun>& runs, const StagesOf& stages);

}  // namespace flatback::tools
