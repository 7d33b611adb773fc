// The tests that boot something in Bochs.
#pragma once

#include "tools/check/test_report.hpp"
#include "tools/ground/error.hpp"

namespace flatback::tools {

// Runs those that the filter selects. Each check that a guest reports counts as a test, and each run as one
// more: that it ended as it should. `with_linux`: the Linux stack too. Error: what kept a run from starting,
// or interrupted.
[[nodiscard]] Result<> run_boot_tests(TestReport& report, bool with_linux);

}  // namespace flatback::tools
