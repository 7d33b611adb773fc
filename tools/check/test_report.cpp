#include "tools/check/test_report.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>

namespace flatback::tools {

void TestReport::pass(std::string_view name) {
    ++passed_;
    fmt::print("ok      {}\n", name);
    std::fflush(stdout);
}

void TestReport::fail(std::string_view name, std::string_view why) {
    failures_.push_back(fmt::format("FAILED  {}: {}", name, why.substr(0, why.find('\n'))));
    fmt::print("FAILED  {}: {}\n", name, why);
    std::fflush(stdout);
}

std::string TestReport::closing() const {
    std::string text;
    if (!failures_.empty()) text = fmt::format("\nwhat failed, once more:\n{}\n", fmt::join(failures_, "\n"));
    return text + fmt::format("{} passed, {} failed", passed_, failures_.size());
}

}  // namespace flatback::tools
