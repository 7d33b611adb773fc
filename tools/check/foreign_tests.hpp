// The tests that boot programs which are no part of this project: `flatback test --foreign`. Minutes each.
#pragma once

#include "tools/check/test_report.hpp"
#include "tools/ground/error.hpp"

namespace flatback::tools {

// Runs those that the filter selects, downloads included. A package that the machine's lists do not have is
// said, and its test left out. Error: what kept a run from starting, or interrupted.
[[nodiscard]] Result<> run_foreign_tests(TestReport& report);

}  // namespace flatback::tools
