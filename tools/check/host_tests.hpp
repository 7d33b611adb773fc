// The tests that need no emulator: the sources' form and the programs registered with ctest.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/check/test_report.hpp"
#include "tools/ground/error.hpp"

namespace flatback::tools {

// One test. Error: interrupted, or a program that is missing.
[[nodiscard]] Result<> check_format(TestReport& report);

// Each TEST of each program counts. None at all is a failure.
[[nodiscard]] Result<> run_unit_tests(TestReport& report);

struct UnitTestResult {
    std::string name;
    bool passed = false;
    std::string why;  // the first line that says what failed, if one does
};

// The test cases in a JUnit file that ctest has written; none where it is no XML.
[[nodiscard]] std::vector<UnitTestResult> parse_junit(std::string_view xml);

}  // namespace flatback::tools
