#include "tools/stack/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

namespace flatback::tools {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

std::string_view stage_title(std::string_view stage) {
    if (stage == "l0") return "L0";
    if (stage == "peer-l0") return "KVM as L0";
    if (stage == "peer-l1") return "L1 kernel";
    if (stage == "l1-entry" || stage == "l1-kernel") return "L1 kernel";
    if (stage == "l1-user") return "L1 user space";
    if (stage == "bare-l1") return "bare L1";
    if (stage == "l2") return "L2";
    if (stage == "l1-lat-ctx") return "lat_ctx in L1";
    if (stage == "l2-linux") return "Linux as L2";
    if (stage == "l2-user") return "lat_ctx";
    return {};
}

Progress::Progress() : terminal_{::isatty(STDERR_FILENO) == 1} {}

QueueObserver Progress::observer() {
    return {
        .started = [this](std::string_view run) { enter(run, "firmware"); },
        .record =
            [this](std::string_view run, const SerialRecord& record) {
                const auto* stage = std::get_if<StageRecord>(&record);
                if (stage == nullptr) return;
                const std::string_view title = stage_title(stage->name);
                if (!title.empty()) enter(run, title);
            },
        .finished =
            [this](std::string_view run, const Outcome& outcome, const Transcript& transcript) {
                running_.erase(running_.find(run));
                say(fmt::format("{}: {}{} ({:.0f} s)", run, transcript.ended() ? "done; " : "",
                                describe(outcome, transcript), outcome.seconds));
            },
        .idle = [this] { show_status(); },
    };
}

void Progress::say(std::string_view text) {
    clear_status();
    fmt::print(stderr, "flatback: {}\n", text);
}

void Progress::enter(std::string_view run, std::string_view stage) {
    auto found = running_.find(run);
    if (found == running_.end()) {
        found = running_.emplace(std::string{run}, Running{{}, std::chrono::steady_clock::now()}).first;
    }
    if (found->second.stage == stage) return;
    found->second.stage = stage;
    say(fmt::format("{}: {} ({:.0f} s)", run, stage, seconds_since(found->second.start)));
}

void Progress::show_status() {
    if (!terminal_) return;
    std::string line;
    for (const auto& [name, running] : running_) {
        line += fmt::format("  {}: {} {:.0f} s", name, running.stage, seconds_since(running.start));
    }
    fmt::print(stderr, "\r{}\033[K", line);
    std::fflush(stderr);
}

void Progress::clear_status() {
    if (terminal_) fmt::print(stderr, "\r\033[K");
}

}  // namespace flatback::tools
