// Several runs in Bochs, a few at a time.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/emulator/emulation.hpp"

namespace flatback::tools {

struct QueuedRun {
    std::string name;
    EmulationRequest request;  // its listener is used by the queue
    // Where the run's last screen is written to, as PNG.
    std::optional<std::filesystem::path> screen_file = std::nullopt;
};

struct FinishedRun {
    std::string name;
    Outcome outcome;
    Transcript transcript;
    std::string console;  // Emulation::console()
    // Where a screen was asked for.
    std::optional<std::filesystem::path> screen_file = std::nullopt;
    std::string screen_error = {};  // why it was not written; empty where it was
};

// Told what happens; all calls come from the thread that runs the queue.
struct QueueObserver {
    std::function<void(std::string_view run)> started;
    std::function<void(std::string_view run, const SerialRecord& record)> record;
    std::function<void(std::string_view run, const Outcome& outcome, const Transcript& transcript)> finished;
    std::function<void()> idle;  // some times a second
};

// Ticks count instructions, not time: runs beside each other measure the same as alone.
inline constexpr std::size_t runs_at_once = 2;

// Runs all of them; the results are in the order of the runs. Error: what kept one from starting, or
// interrupted.
[[nodiscard]] Result<std::vector<FinishedRun>> run_all(std::vector<QueuedRun> runs,
                                                       const QueueObserver& observer);

}  // namespace flatback::tools
