#include "tools/check/host_tests.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <pugixml.hpp>

#include "tools/check/source_files.hpp"
#include "tools/ground/child_process.hpp"
#include "tools/ground/excerpt.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/paths.hpp"
#include "tools/ground/temporary_directory.hpp"

namespace flatback::tools {
namespace {

constexpr std::chrono::seconds format_limit{120};
constexpr std::chrono::seconds unit_test_limit{900};
constexpr std::string_view jobs = "2";

// The line of a GoogleTest program that says where, and the one behind it that says what.
std::string first_failure(std::string_view output) {
    const std::size_t mark = output.find(": Failure\n");
    if (mark == std::string_view::npos) return "see below";
    const std::size_t start = output.rfind('\n', mark) + 1;
    std::string_view lines = output.substr(start);
    const std::size_t end = lines.find('\n', lines.find('\n') + 1);
    std::string line{lines.substr(0, end)};
    std::ranges::replace(line, '\n', ' ');
    return line;
}

}  // namespace

Result<> check_format(TestReport& report) {
    CommandLine command;
    command.arguments = {"clang-format", "--dry-run", "-Werror"};
    for (const auto& file : source_files()) command.arguments.push_back(file.string());
    const Finished finished = TRY(run_to_end(std::move(command), format_limit));
    report.add("format", finished.status == 0, "clang-format would change:" + findings(finished.output));
    return {};
}

std::vector<UnitTestResult> parse_junit(std::string_view xml) {
    std::vector<UnitTestResult> results;
    pugi::xml_document document;
    if (!document.load_buffer(xml.data(), xml.size())) return results;
    for (const pugi::xml_node test : document.child("testsuite").children("testcase")) {
        UnitTestResult& result = results.emplace_back(test.attribute("name").value());
        // "run" is a test that ran and passed; "fail", "notrun" and "disabled" are not.
        result.passed = std::string_view{test.attribute("status").value()} == "run";
        if (!result.passed) result.why = first_failure(test.child_value("system-out"));
    }
    return results;
}

Result<> run_unit_tests(TestReport& report) {
    const TemporaryDirectory directory = TRY(TemporaryDirectory::create());
    const std::filesystem::path junit = directory.path() / "junit.xml";
    CommandLine command;
    command.arguments = {
        "ctest",           "--test-dir",          build_directory().string(), "-j",
        std::string{jobs}, "--output-on-failure", "--output-junit",           junit.string()};
    if (!report.filter().empty()) {
        command.arguments.insert(command.arguments.end(), {"-R", literally(report.filter())});
    }
    const Finished finished = TRY(run_to_end(std::move(command), unit_test_limit));
    const auto xml = read_file(junit);
    std::vector<UnitTestResult> results;
    if (xml) results = parse_junit(text_of(*xml));
    bool any_failed = false;
    for (const UnitTestResult& result : results) {
        any_failed |= !result.passed;
        report.add(result.name, result.passed, result.why);
    }
    if (any_failed) fmt::print("{}\n", last_lines(finished.output));
    if (finished.status != 0 && !any_failed) report.fail("ctest", last_lines(finished.output));
    if (results.empty() && report.filter().empty()) report.fail("ctest", "no unit test was found");
    return {};
}

}  // namespace flatback::tools
