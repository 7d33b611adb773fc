// Windows of a run: the emulator's trace is switched on and off from its debugger, and followed.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "watch/follower.hpp"
#include "watch/trace_reader.hpp"

namespace flatback::tools {

struct WindowPlan {
    std::uint64_t instructions = 0;  // of each window
    std::uint64_t windows = 0;       // at most; each begins where the guest marks the begin of a measurement
    const machine::TlbGeometry* geometry = nullptr;
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

    // Once all has been heard.
    [[nodiscard]] const watch::Counts& counts();
    [[nodiscard]] const watch::TaggedTlbs& tlbs() const { return follower_->tlbs(); }
    [[nodiscard]] std::uint64_t lines() const { return reader_.lines(); }

private:
    [[nodiscard]] std::string begin_window();
    [[nodiscard]] std::string end_window();

    WindowPlan plan_;
    watch::TraceReader reader_;
    std::optional<watch::Follower> follower_;
    std::uint64_t begun_ = 0;
    bool tracing_ = false;
    std::mutex mutex_;
    std::condition_variable known_;
    std::optional<std::uint64_t> vmcs01_;
};

}  // namespace flatback::tools
