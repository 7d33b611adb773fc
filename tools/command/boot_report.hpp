// What `flatback run --l1 … --json FILE` writes.
#pragma once

#include <string>
#include <string_view>

#include "tools/emulator/ending.hpp"
#include "tools/emulator/transcript.hpp"

namespace flatback::tools {

// {"ending", "message", "unit", "ticks", "seconds", "stages", "values", "texts", "checks", "errors"}. `unit`:
// of the values that are times, "ticks" of the emulator's or "cycles" of a real TSC.
[[nodiscard]] std::string boot_report(const Outcome& outcome, const Transcript& transcript,
                                      std::string_view unit);

}  // namespace flatback::tools
