// What `flatback run --l1 … --json FILE` writes.
#pragma once

#include <string>

#include "tools/emulator/ending.hpp"
#include "tools/emulator/transcript.hpp"

namespace flatback::tools {

// {"ending", "message", "ticks", "seconds", "stages", "values", "texts", "checks", "errors"}
[[nodiscard]] std::string boot_report(const Outcome& outcome, const Transcript& transcript);

}  // namespace flatback::tools
