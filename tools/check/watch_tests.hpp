// The tests that watch windows of runs on tagged TLBs (docs/watch.md).
#pragma once

#include "tools/check/test_report.hpp"
#include "tools/ground/error.hpp"

namespace flatback::tools {

// Those that the filter selects: two L2s in turn on the bare L1, and its probes for stale translations.
// Error: what kept a run from starting, or interrupted.
[[nodiscard]] Result<> run_watch_tests(TestReport& report);

}  // namespace flatback::tools
