// Windows of a run: the emulator's trace is switched on and off from its debugger, and followed.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "tools/watch/flush_records.hpp"
#include "watch/follower.hpp"
#include "watch/phase.hpp"
#include "watch/trace_reader.hpp"

namespace flatback::tools {

struct WindowPlan {
    std::uint64_t instructions = 0;  // of each window; with `warming`: behind it
    std::uint64_t windows = 0;       // at most; each begins where the guest marks the begin of a part
    // Not 0: so many instructions of each are for warming up, and each stands for its part, to the next mark,
    // which ends it. 0: they stand for themselves.
    std::uint64_t warming = 0;
    const machine::TlbGeometry* geometry = nullptr;
    // The trace of window N is kept in the file that this begins, and N.txt ends; none: it is not.
    std::optional<std::filesystem::path> keep{};
    bool l0_records = false;                  // L0 records its flushes (trace=on): they are read and compared
    std::optional<std::uint64_t> progress{};  // watch::Follower::Options
};

// What is heard of one run's debugger, and what it is answered (Emulation's dialogue).
class WindowWatcher final {
public:
    explicit WindowWatcher(const WindowPlan& plan);
    WindowWatcher(const WindowWatcher&) = delete;
    WindowWatcher& operator=(const WindowWatcher&) = delete;
    ~WindowWatcher() = default;

    [[nodiscard]] std::string hear(std::string_view bytes);

    // From another thread than `hear`: the address of the VMCS by which L0 runs L1. The first window waits
    // for it.
    void know_vmcs01(std::uint64_t address);

    // Likewise, before vmcs01: where L0 counts the exits of L2s. Parts then know how many entries they had.
    void know_exit_counter(std::uint64_t address);

    // Once all has been heard.
    [[nodiscard]] const watch::Counts& counts();
    [[nodiscard]] const watch::PhaseEstimate& phase() const { return phase_; }
    [[nodiscard]] const watch::TaggedTlbs& tlbs() const { return follower_->tlbs(); }
    [[nodiscard]] const FlushCounts& flushes() const { return flushes_.counts(); }
    // What could not be kept, as a sentence; empty: nothing.
    [[nodiscard]] const std::string& lack() const { return lack_; }

private:
    [[nodiscard]] std::string begin_window(std::uint64_t tick);
    [[nodiscard]] std::string end_window();
    void keep_line(std::string_view text);
    void await_l0();
    [[nodiscard]] std::string take_stop(std::uint64_t tick);
    [[nodiscard]] std::string take_mark(std::uint64_t tick);
    [[nodiscard]] std::string take_exits(std::string_view line);

    WindowPlan plan_;
    watch::TraceReader reader_;
    std::optional<watch::Follower> follower_;
    FlushRecords flushes_;
    std::uint64_t begun_ = 0;
    bool tracing_ = false;
    bool stopped_at_mark_ = false;
    std::uint64_t window_ends_ = 0;  // the tick
    std::uint64_t steps_left_ = 0;   // pieces of a window with `warming`
    std::uint64_t part_began_ = 0;   // the same
    std::optional<std::uint64_t> exits_at_its_begin_{};
    std::optional<std::uint64_t> exits_{};            // at this mark
    std::optional<std::uint64_t> awaits_exits_at_{};  // the tick of the mark at which they were asked for
    std::optional<watch::WindowCounts> of_part_{};    // its window, once that has ended
    watch::PhaseEstimate phase_;
    std::filesystem::path kept_path_;
    std::ofstream kept_;
    std::string lack_;
    std::mutex mutex_;
    std::condition_variable known_;
    std::optional<std::uint64_t> vmcs01_;
    std::optional<std::uint64_t> exit_counter_;
};

}  // namespace flatback::tools
