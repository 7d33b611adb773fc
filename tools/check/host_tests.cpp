#include "tools/check/host_tests.hpp"

#include <fmt/format.h>

#include <chrono>

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
    constexpr std::string_view element = "<testcase name=\"";
    constexpr std::string_view attribute = "status=\"";
    std::vector<UnitTestResult> results;
    for (std::size_t start = xml.find(element); start != std::string_view::npos;
         start = xml.find(element, start)) {
        start += element.size();
        const std::string_view tag = xml.substr(start, xml.find('>', start) - start);
        const std::size_t status = tag.find(attribute);
        // "run" is a test that ran and passed; "fail", "notrun" and "disabled" are not.
        const bool passed =
            status != std::string_view::npos && tag.substr(status + attribute.size()).starts_with("run\"");
        results.push_back({std::string{tag.substr(0, tag.find('"'))}, passed});
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
        report.add(result.name, result.passed, "see below");
    }
    if (any_failed) fmt::print("{}\n", last_lines(finished.output));
    if (finished.status != 0 && !any_failed) report.fail("ctest", last_lines(finished.output));
    if (results.empty() && report.filter().empty()) report.fail("ctest", "no unit test was found");
    return {};
}

}  // namespace flatback::tools
