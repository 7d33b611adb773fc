// A trace as text, as JSON for other programs, and as JSON for Perfetto (https://ui.perfetto.dev).
#pragma once

#include <optional>
#include <span>
#include <string>

#include "tools/trace/trace_view.hpp"

namespace flatback::tools {

// What is said of a trace besides its events.
struct TraceFacts {
    std::string mode;
    std::uint64_t written = 0;             // by L0, those that it no longer has too
    std::optional<std::uint64_t> tsc_khz;  // unknown: times are in ticks
};

// One line an event; `skipped` events before these are said to be left out.
[[nodiscard]] std::string render_trace(std::span<const TraceEvent> events, std::size_t skipped);
// Exits by level, reason and handler; flushes by instruction and cause; ticks by level.
[[nodiscard]] std::string render_trace_summary(std::span<const TraceEvent> events, const TraceFacts& facts);

// docs/trace.md has the schema.
[[nodiscard]] std::string trace_json(std::span<const TraceEvent> events, const TraceFacts& facts);
[[nodiscard]] std::string perfetto_json(std::span<const TraceEvent> events, const TraceFacts& facts);

}  // namespace flatback::tools
