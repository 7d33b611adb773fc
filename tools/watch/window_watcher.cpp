#include "tools/watch/window_watcher.hpp"

#include <fmt/format.h>

namespace flatback::tools {
namespace {

// L0 tells it long before the guest marks anything; only its line may not have been read yet.
constexpr std::chrono::seconds longest_wait{20};

}  // namespace

WindowWatcher::WindowWatcher(const WindowPlan& plan) : plan_{plan} {
    follower_.emplace(watch::Follower::Options{.geometry = plan.geometry});
}

void WindowWatcher::know_vmcs01(std::uint64_t address) {
    const std::lock_guard lock{mutex_};
    vmcs01_ = address;
    known_.notify_all();
}

std::string WindowWatcher::hear(std::string_view bytes) {
    std::string answer;
    reader_.append(bytes, [&](const watch::TraceLine& line) {
        if (line.kind != watch::TraceLine::Kind::other) {
            if (tracing_) follower_->take(line);
            return;
        }
        const std::string_view text = reader_.text();
        if (text.starts_with("(0) Magic breakpoint")) {
            answer += tracing_ || begun_ == plan_.windows ? "c\n" : begin_window();
        } else if (text.starts_with("(0) Caught time breakpoint")) {
            answer += tracing_ ? end_window() : "c\n";
        }
    });
    return answer;
}

std::string WindowWatcher::begin_window() {
    if (begun_ == 0) {
        std::unique_lock lock{mutex_};
        known_.wait_for(lock, longest_wait, [this] { return vmcs01_.has_value(); });
        follower_.emplace(watch::Follower::Options{.geometry = plan_.geometry, .vmcs01 = vmcs01_});
    }
    ++begun_;
    tracing_ = true;
    return fmt::format("trace on\ntrace-mem on\nsb {}\nc\n", plan_.instructions);
}

std::string WindowWatcher::end_window() {
    tracing_ = false;
    follower_->end_window();
    return "trace off\ntrace-mem off\nc\n";
}

const watch::Counts& WindowWatcher::counts() {
    if (tracing_) static_cast<void>(end_window());
    return follower_->counts();
}

}  // namespace flatback::tools
