// A kept trace: lines of text, as guests/linux/l0_trace.hpp writes them (docs/trace.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/ground/error.hpp"
#include "trace/event.hpp"

namespace flatback::tools {

struct Trace {
    std::string mode;                      // of nested VPID
    std::uint64_t capacity = 0;            // of L0's ring, in events
    std::uint64_t written = 0;             // events since L0 began to record
    std::optional<std::uint64_t> tsc_khz;  // of the TSC
    std::vector<trace::Event> events;      // the newest of them, oldest first
};

// The first trace in `text`, which may have anything around it. Error: input_file, with the line and what is
// wrong with it; a trace that is cut off or damaged is none.
[[nodiscard]] Result<Trace> parse_trace(std::string_view text);

[[nodiscard]] std::string format_trace(const Trace& trace);

}  // namespace flatback::tools
