// `flatback run`: boots the whole stack in each nested-VPID mode, and ends with the table.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/command_line.hpp"
#include "tools/linux_guest.hpp"
#include "tools/measurements.hpp"
#include "tools/run_queue.hpp"

namespace flatback::tools {

// success only where every stage was reached and every value of the report was measured in this run.
[[nodiscard]] Result<ExitStatus> stack_command(const StackOptions& options);

// What `flatback bench` shares with it.

[[nodiscard]] std::vector<QueuedRun> stack_runs(const LinuxGuest& guest, std::chrono::seconds limit);

// The stages that one of these runs must reach.
[[nodiscard]] const std::vector<std::string>& stages_of(std::string_view run);

[[nodiscard]] Measurements collect(const std::vector<FinishedRun>& runs);

// Of each run that failed: what it lacks, and the end of what its guests printed. Empty where none failed.
using StagesOf = std::function<const std::vector<std::string>&(std::string_view run)>;
[[nodiscard]] std::string failures(const std::vector<FinishedRun>& runs, const StagesOf& stages);

}  // namespace flatback::tools
