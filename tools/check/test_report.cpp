#include "tools/check/test_report.hpp"

#include <fmt/format.h>

#include <cstdio>

namespace flatback::tools {

void TestReport::pass(std::string_view name) {
    ++passed_;
    fmt::print("ok      {}\n", name);
    std::fflush(stdout);
}

void TestReport::fail(std::string_view name, std::string_view why) {
    ++failed_;
    fmt::print("FAILED  {}: {}\n", name, why);
    std::fflush(stdout);
}

std::string TestReport::closing_line() const {
    return fmt::format("{} passed, {} failed", passed_, failed_);
}

}  // namespace flatback::tools
