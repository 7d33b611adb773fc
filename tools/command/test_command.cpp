#include "tools/command/test_command.hpp"

#include <fmt/format.h>

#include "tools/check/boot_tests.hpp"
#include "tools/check/coverage.hpp"
#include "tools/check/foreign_tests.hpp"
#include "tools/check/fuzzing.hpp"
#include "tools/check/host_tests.hpp"
#include "tools/check/tidy.hpp"
#include "tools/check/watch_tests.hpp"

namespace flatback::tools {
namespace {

Result<ExitStatus> close(const TestReport& report, const std::string& filter) {
    if (report.passed() + report.failed() == 0) {
        return fail(ExitStatus::usage, fmt::format("no test has {} in its name", filter));
    }
    fmt::print("{}\n", report.closing());
    return report.failed() == 0 ? ExitStatus::success : ExitStatus::incomplete;
}

}  // namespace

Result<ExitStatus> test_command(const TestOptions& options) {
    if (options.coverage) return coverage_command(options.json_file);
    TestReport report{options.filter};
    if (options.random) {
        TRY(run_random_tests(report, *options.random));
        return close(report, options.filter);
    }
    if (options.foreign) {
        TRY(run_foreign_tests(report));
        return close(report, options.filter);
    }
    if (report.selects("format")) TRY(check_format(report));
    // All of it takes some ten minutes: only where it is asked for by name.
    if (report.selects("tidy"))
        TRY(check_tidy(report, options.filter.empty() ? TidyScope::what_changed : TidyScope::everything));
    TRY(run_unit_tests(report));
    TRY(run_fuzz_targets(report));
    TRY(run_boot_tests(report, !options.quick));
    TRY(run_watch_tests(report));
    // The same cases each time, as far as a minute goes.
    constexpr std::uint64_t random_cases = 400;
    if (report.selects("random"))
        TRY(run_random_tests(report, {.time = std::chrono::minutes{1}, .most_cases = random_cases}));
    return close(report, options.filter);
}

}  // namespace flatback::tools
