#include "tools/check/coverage.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "tools/ground/child_process.hpp"
#include "tools/ground/excerpt.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/output.hpp"
#include "tools/ground/paths.hpp"

namespace flatback::tools {
namespace {

constexpr std::array<std::string_view, 3> folders{"tag", "nested", "host"};
// The tests that were written for these folders; what the trial (judge/trial/) runs of them besides is
// not counted, as it takes the whole machine to build.
constexpr std::array<std::string_view, 6> programs{
    "host_test", "nested_entry_checks_test", "nested_test", "tag_model_test", "tag_test", "tag_threads_test"};
constexpr double least_percent = 95;

constexpr std::chrono::seconds configure_limit{300};
constexpr std::chrono::seconds build_limit{3600};
constexpr std::chrono::seconds test_limit{1800};
constexpr std::chrono::seconds count_limit{900};

std::filesystem::path coverage_directory() {
    return build_directory() / "coverage";
}

// Runs one step of the work; its output is shown where it fails.
Result<> work(std::string_view what, std::vector<std::string> arguments, std::chrono::seconds limit) {
    fmt::print(stderr, "flatback: {}\n", what);
    const std::string program = arguments.front();
    CommandLine command;
    command.arguments = std::move(arguments);
    const Finished finished = TRY(run_to_end(std::move(command), limit));
    if (finished.status == 0) return {};
    fmt::print("{}\n", last_lines(finished.output));
    return fail(ExitStatus::incomplete,
                fmt::format("{}: {} failed, its last lines are above", what, program));
}

Result<> build_tests() {
    const std::string directory = coverage_directory().string();
    TRY(make_directory(coverage_directory()));
    if (!std::filesystem::exists(coverage_directory() / "build.ninja")) {
        TRY(work("configuring the build that counts lines",
                 {"cmake", "-S", source_directory().string(), "-B", directory, "-G", "Ninja",
                  "-DCMAKE_BUILD_TYPE=None", "-DFLATBACK_COVERAGE=ON"},
                 configure_limit));
    }
    std::vector<std::string> build{"ninja", "-C", directory};
    build.insert(build.end(), programs.begin(), programs.end());
    return work("building the hosted tests of tag/, nested/ and host/", std::move(build), build_limit);
}

// What earlier runs counted is no part of this one.
void forget_counts() {
    std::vector<std::filesystem::path> old;
    std::error_code error;
    for (const auto& entry : std::filesystem::recursive_directory_iterator{coverage_directory(), error}) {
        if (entry.path().extension() == ".gcda") old.push_back(entry.path());
    }
    for (const auto& path : old) std::filesystem::remove(path, error);
}

Result<> run_tests() {
    std::string pattern;
    for (const std::string_view program : programs)
        pattern += fmt::format("{}{}", pattern.empty() ? "^(" : "|", program);
    pattern += ")[.]";
    return work("running them",
                {"ctest", "--test-dir", coverage_directory().string(), "-j", "2", "-R", pattern,
                 "--output-on-failure", "--no-tests=error"},
                test_limit);
}

Result<std::vector<FileCoverage>> count_lines() {
    const std::filesystem::path summary = coverage_directory() / "coverage.json";
    std::vector<std::string> count{"gcovr",
                                   "--root",
                                   source_directory().string(),
                                   "--object-directory",
                                   coverage_directory().string(),
                                   "--json-summary",
                                   summary.string(),
                                   "-j",
                                   "2"};
    for (const std::string_view folder : folders) {
        count.insert(count.end(), {"--filter", (source_directory() / folder / "").string()});
    }
    count.push_back(coverage_directory().string());
    TRY(work("counting lines", std::move(count), count_limit));
    const Bytes json = TRY(read_file(summary));
    return parse_coverage(text_of(json));
}

std::string coverage_json(const std::vector<FileCoverage>& files) {
    nlohmann::ordered_json report = nlohmann::ordered_json::object();
    const auto put = [](nlohmann::ordered_json& place, const FileCoverage& it) {
        place[it.file] = {{"lines", it.lines}, {"covered", it.covered}, {"percent", percent(it)}};
    };
    for (const FileCoverage& file : files) put(report["files"], file);
    for (const std::string_view folder : folders) put(report["folders"], folder_coverage(files, folder));
    return report.dump(2) + "\n";
}

void print_row(std::FILE* out, const FileCoverage& coverage) {
    fmt::print(out, "{:<40}{:>8}{:>10}{:>9.1f} %\n", coverage.file, coverage.lines, coverage.covered,
               percent(coverage));
}

}  // namespace

Result<std::vector<FileCoverage>> parse_coverage(std::string_view json) {
    const auto summary = nlohmann::json::parse(json, nullptr, false);
    const auto damaged = [] {
        return fail(ExitStatus::incomplete, "gcovr's summary is not what it should be");
    };
    if (!summary.is_object() || !summary.contains("files") || !summary["files"].is_array()) return damaged();
    std::vector<FileCoverage> files;
    for (const auto& each : summary["files"]) {
        const auto number = [&each](const char* key) {
            return each.is_object() && each.contains(key) && each[key].is_number_unsigned();
        };
        if (!number("line_total") || !number("line_covered") || !each.contains("filename") ||
            !each["filename"].is_string()) {
            return damaged();
        }
        files.push_back({each["filename"].get<std::string>(), each["line_total"].get<unsigned>(),
                         each["line_covered"].get<unsigned>()});
    }
    return files;
}

FileCoverage folder_coverage(const std::vector<FileCoverage>& files, std::string_view folder) {
    FileCoverage sum{.file = std::string{folder} + "/"};
    for (const FileCoverage& each : files) {
        if (!each.file.starts_with(sum.file)) continue;
        sum.lines += each.lines;
        sum.covered += each.covered;
    }
    return sum;
}

double percent(const FileCoverage& coverage) {
    constexpr double hundred = 100;
    return coverage.lines == 0 ? 0 : hundred * coverage.covered / coverage.lines;
}

Result<ExitStatus> coverage_command(const std::optional<std::filesystem::path>& json_file) {
    if (json_file) TRY(check_output(*json_file));
    TRY(build_tests());
    forget_counts();
    TRY(run_tests());
    const std::vector<FileCoverage> files = TRY(count_lines());
    std::FILE* const out = text_stream(json_file);
    fmt::print(out, "{:<40}{:>8}{:>10}{:>11}\n", "file", "lines", "covered", "percent");
    for (const FileCoverage& each : files) print_row(out, each);
    bool enough = true;
    for (const std::string_view folder : folders) {
        const FileCoverage sum = folder_coverage(files, folder);
        print_row(out, sum);
        if (percent(sum) >= least_percent) continue;
        enough = false;
        fmt::print(out,
                   "FAILED  {}/: {:.1f} % of its lines are run by hosted tests, {:.0f} % are asked for\n",
                   folder, percent(sum), least_percent);
    }
    if (json_file) TRY(write_output(*json_file, coverage_json(files)));
    return enough ? ExitStatus::success : ExitStatus::incomplete;
}

}  // namespace flatback::tools
