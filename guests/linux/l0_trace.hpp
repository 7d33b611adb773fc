#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <vector>

#include "guests/linux/l0_counters.hpp"
#include "trace/event.hpp"

// L0's trace as L1 reads it: CPUID leaf 4000_0005H (docs/trace.md). Needs no privilege.
namespace flatback::guests {

struct L0Trace {
    std::uint64_t capacity = 0;
    /// Since the recording started, those that are lost too.
    std::uint64_t written = 0;
    std::string mode;
    /// The newest, oldest first; the last one is event written - 1.
    std::vector<trace::Event> events;
};

/// Why there is no trace to be had, as one line.
using TraceError = std::string;

[[nodiscard]] std::expected<void, TraceError> start_l0_trace(CpuidFunction cpuid);
[[nodiscard]] std::expected<void, TraceError> stop_l0_trace(CpuidFunction cpuid);

/// Stops the recording, which does not go on by itself, and reads at most `most` events.
[[nodiscard]] std::expected<L0Trace, TraceError> read_l0_trace(CpuidFunction cpuid, std::uint64_t most);

/// As docs/trace.md describes a kept trace: lines of text.
[[nodiscard]] std::string format_l0_trace(const L0Trace& trace);

}  // namespace flatback::guests
