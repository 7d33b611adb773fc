// L0's trace, read as any L1 may: CPUID leaf 4000_0005H (docs/trace.md).
#pragma once

#include <cstdint>

#include "trace/event.hpp"

namespace flatback::guests::trace_reader {

// Whether there is an L0 that was started with trace=on.
bool available();

void start();
void stop();
std::uint64_t capacity();
std::uint64_t written();

// Event `number`, counted from the start; one that is kept. Only while stopped.
trace::Event event(std::uint64_t number);

}  // namespace flatback::guests::trace_reader
