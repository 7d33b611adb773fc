#include "tools/watch/window_watcher.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "tools/ground/hexadecimal.hpp"

namespace flatback::tools {
namespace {

constexpr std::string_view next_tick = "Next at t=";
// A line of memory that the debugger was asked for: "0x… <bogus+       0>:\t0x…".
constexpr std::string_view memory_line = " <bogus+";

// L0 tells it long before the guest marks anything; only its line may not have been read yet.
constexpr std::chrono::seconds longest_wait{20};

// When a window that warms up has what it is to have shows only while it goes on: how long it is until the
// first VM entry, before which nobody knows who runs. So it is made of pieces, and given up after so many.
constexpr std::uint64_t pieces_of_what_is_counted = 4;
constexpr std::uint64_t most_pieces = 16;

std::uint64_t piece(const WindowPlan& plan) {
    return (plan.instructions + pieces_of_what_is_counted - 1) / pieces_of_what_is_counted;
}

}  // namespace

WindowWatcher::WindowWatcher(const WindowPlan& plan) : plan_{plan} {
    follower_.emplace(watch::Follower::Options{.geometry = plan.geometry});
}

void WindowWatcher::know_vmcs01(std::uint64_t address) {
    const std::lock_guard lock{mutex_};
    vmcs01_ = address;
    known_.notify_all();
}

void WindowWatcher::know_exit_counter(std::uint64_t address) {
    const std::lock_guard lock{mutex_};
    exit_counter_ = address;
}

std::string WindowWatcher::hear(std::string_view bytes) {
    std::string answer;
    reader_.append(bytes, [&](const watch::TraceLine& line) {
        if (line.kind != watch::TraceLine::Kind::other) {
            if (tracing_) {
                follower_->take(line);
                if (plan_.l0_records) {
                    if (const auto type = flushes_.take(line)) follower_->know_type(*type);
                }
                keep_line(reader_.text());
            }
            return;
        }
        const std::string_view text = reader_.text();
        if (text.starts_with("(0) Magic breakpoint")) {
            stopped_at_mark_ = true;
        } else if (text.starts_with(next_tick)) {
            std::uint64_t tick = 0;
            std::from_chars(text.data() + next_tick.size(), text.data() + text.size(), tick);
            answer += take_stop(tick);
        } else if (awaits_exits_at_ && text.contains(memory_line)) {
            answer += take_exits(text);
        }
    });
    return answer;
}

// The debugger says why it has stopped, if not for the end of the steps that it was told to make, and then at
// which tick.
std::string WindowWatcher::take_stop(std::uint64_t tick) {
    const bool at_mark = std::exchange(stopped_at_mark_, false);
    const bool parts = plan_.warming != 0;
    if (!at_mark && tracing_ && parts && steps_left_ != 0 &&
        follower_->counted_behind_warming() < plan_.instructions) {
        --steps_left_;
        return fmt::format("s {}\n", piece(plan_));
    }
    if (!at_mark) return tracing_ ? end_window() + "c\n" : "";
    if (tracing_ && !parts) {
        // The rest of the window.
        return fmt::format("s {}\n", std::max<std::uint64_t>(window_ends_ - std::min(tick, window_ends_), 1));
    }
    if (begun_ == 0) await_l0();
    if (!parts) return begun_ == plan_.windows ? "c\n" : begin_window(tick);
    std::string answer = tracing_ ? end_window() : "";
    const std::lock_guard lock{mutex_};
    awaits_exits_at_ = tick;
    if (exit_counter_) return answer + fmt::format("xp /1gx {:#x}\n", *exit_counter_);
    return answer + take_exits({});
}

// What L0 tells before it enters L1.
void WindowWatcher::await_l0() {
    std::unique_lock lock{mutex_};
    known_.wait_for(lock, longest_wait, [this] { return vmcs01_.has_value(); });
    follower_.emplace(watch::Follower::Options{.geometry = plan_.geometry,
                                               .vmcs01 = vmcs01_,
                                               .progress = plan_.progress,
                                               .warming_instructions = plan_.warming});
}

std::string WindowWatcher::take_exits(std::string_view line) {
    const std::size_t colon = line.find(":\t");
    exits_ = colon == std::string_view::npos ? std::nullopt : hexadecimal_number(line.substr(colon + 2));
    return take_mark(*std::exchange(awaits_exits_at_, std::nullopt));
}

// The end of a part and the begin of the next.
std::string WindowWatcher::take_mark(std::uint64_t tick) {
    if (of_part_) {
        std::optional<std::uint64_t> entries;
        if (exits_ && exits_at_its_begin_) entries = *exits_ - *exits_at_its_begin_;
        phase_.add({tick - part_began_, entries, *of_part_});
    }
    of_part_.reset();
    part_began_ = tick;
    exits_at_its_begin_ = std::exchange(exits_, std::nullopt);
    return begun_ == plan_.windows ? "c\n" : begin_window(tick);
}

std::string WindowWatcher::begin_window(std::uint64_t tick) {
    ++begun_;
    tracing_ = true;
    if (plan_.keep) {
        kept_path_ = fmt::format("{}{}.txt", plan_.keep->string(), begun_);
        kept_.open(kept_path_, std::ios::binary | std::ios::trunc);
        if (!kept_) lack_ = fmt::format("cannot write {}", kept_path_.string());
    }
    window_ends_ = tick + plan_.instructions;
    steps_left_ = most_pieces - 1;
    return fmt::format("trace on\ntrace-mem on\ns {}\n",
                       plan_.warming != 0 ? piece(plan_) : plan_.instructions);
}

std::string WindowWatcher::end_window() {
    tracing_ = false;
    const watch::WindowCounts window = follower_->end_window();
    flushes_.end_window();
    if (plan_.warming != 0) {
        of_part_ = window;
    } else {
        phase_.add(window);
    }
    if (kept_.is_open()) {
        kept_.close();
        if (!kept_) lack_ = fmt::format("cannot write all of {}", kept_path_.string());
    }
    return "trace off\ntrace-mem off\n";
}

void WindowWatcher::keep_line(std::string_view text) {
    if (kept_.is_open()) kept_ << text << '\n';
}

const watch::Counts& WindowWatcher::counts() {
    if (tracing_) static_cast<void>(end_window());
    return follower_->counts();
}

}  // namespace flatback::tools
