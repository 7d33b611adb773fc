#include "tools/stack/run_queue.hpp"

#include <chrono>
#include <optional>
#include <thread>

namespace flatback::tools {
namespace {

constexpr std::chrono::milliseconds poll_interval{100};

struct Active {
    std::size_t index;
    Emulation emulation;
};

}  // namespace

Result<std::vector<FinishedRun>> run_all(std::vector<QueuedRun> runs, const QueueObserver& observer) {
    std::vector<std::optional<FinishedRun>> finished(runs.size());
    std::vector<Active> active;
    std::size_t next = 0;
    while (next < runs.size() || !active.empty()) {
        while (next < runs.size() && active.size() < runs_at_once) {
            EmulationRequest request = runs[next].request;
            request.keeps_screen = runs[next].screen_file.has_value();
            request.listener = [&observer, name = runs[next].name](std::string_view,
                                                                   const SerialRecord* record) {
                if (record != nullptr && observer.record) observer.record(name, *record);
            };
            if (observer.started) observer.started(runs[next].name);
            active.push_back({next, TRY(Emulation::start(std::move(request)))});
            ++next;
        }
        std::vector<Active> running;
        for (Active& each : active) {
            const auto& outcome = each.emulation.poll();
            if (!outcome) {
                running.push_back(std::move(each));
                continue;
            }
            if (outcome->ending == Ending::interrupted) return fail(ExitStatus::interrupted, "interrupted");
            const std::string& name = runs[each.index].name;
            if (observer.finished) observer.finished(name, *outcome, each.emulation.transcript());
            finished[each.index] =
                FinishedRun{name, *outcome, each.emulation.transcript(), each.emulation.console()};
            if (const auto& file = runs[each.index].screen_file) {
                finished[each.index]->screen_file = file;
                if (const auto written = each.emulation.write_screen(*file); !written)
                    finished[each.index]->screen_error = written.error().message;
            }
        }
        active = std::move(running);
        if (observer.idle) observer.idle();
        std::this_thread::sleep_for(poll_interval);
    }
    std::vector<FinishedRun> results;
    for (auto& run : finished) results.push_back(std::move(*run));
    return results;
}

}  // namespace flatback::tools
