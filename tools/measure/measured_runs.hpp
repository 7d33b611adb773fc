// The runs that `flatback run` and `flatback bench` measure: which they are, and what they measured or lack.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/image/linux_guest.hpp"
#include "tools/measure/measurements.hpp"
#include "tools/stack/run_queue.hpp"

namespace flatback::tools {

[[nodiscard]] std::vector<QueuedRun> measured_runs(const LinuxGuest& guest, std::chrono::seconds limit);

// The stages that one of these runs must reach.
[[nodiscard]] const std::vector<std::string>& stages_of(std::string_view run);

[[nodiscard]] Measurements collect(const std::vector<FinishedRun>& runs);

// Of each run that failed: what it lacks, and the end of what its guests printed. Empty where none failed.
using StagesOf = std::function<const std::vector<std::string>&(std::string_view run)>;
[[nodiscard]] std::string failures(const std::vector<FinishedRun>& runs, const StagesOf& stages);

}  // namespace flatback::tools
