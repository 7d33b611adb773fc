// Events of a trace in words: what every output of `flatback trace` is made from.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trace/event.hpp"

namespace flatback::tools {

struct TraceFlush {
    std::string instruction;  // INVVPID, INVEPT
    unsigned type = 0;
    std::string type_name;  // as the SDM has it
    std::string why;
};

// A trace may come from anywhere: an unknown number is named by itself ("reason 77").
struct TraceEvent {
    std::uint64_t tick = 0;
    unsigned cpu = 0;
    std::string kind;  // exit, entry, flush, refused-entry
    std::string from;  // L0, L1, L2
    std::string to;
    std::string reason;  // of an exit
    std::string
        handled_by;       // of an exit: L0, or L1 where it was reflected; empty where the trace ends before
    unsigned vpid = 0;    // hardware tag; 0: none
    unsigned vpid12 = 0;  // as L1 numbers it; 0: none
    std::uint64_t vmcs12 = 0;  // guest-physical address of L1's VMCS; 0: not L2's
    std::uint64_t operand =
        0;               // guest RIP of an exit, event that an entry injects, address or EPTP of a flush
    unsigned error = 0;  // VM-instruction error of a refused entry
    std::optional<TraceFlush> flush;
};

[[nodiscard]] std::vector<TraceEvent> view_events(std::span<const trace::Event> events);

}  // namespace flatback::tools
