#include "tools/check/fuzzing.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <future>
#include <span>
#include <string>
#include <system_error>

#include "tools/ground/child_process.hpp"
#include "tools/ground/excerpt.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/paths.hpp"
#include "tools/ground/temporary_directory.hpp"

namespace flatback::tools {
namespace {

struct FuzzTarget {
    std::string_view name;
    std::string_view dictionary;
    std::chrono::seconds time;
    unsigned runs;
};

// The times make a minute together, the last as much as the others and more. The runs are what a fast machine
// has done by then.
constexpr std::array<FuzzTarget, 6> fuzz_targets{{
    {"machine_text_fuzzer", "machine_text_fuzzer.dict", std::chrono::seconds{7}, 400'000},
    {"kvm_state_fuzzer", "kvm_state_fuzzer.dict", std::chrono::seconds{3}, 20'000},
    {"machine_program_fuzzer", "machine_program_fuzzer.dict", std::chrono::seconds{10}, 40'000},
    {"state_fuzzer", "state_fuzzer.dict", std::chrono::seconds{10}, 20'000},
    {"watch_trace_fuzzer", "watch_trace_fuzzer.dict", std::chrono::seconds{5}, 10'000},
    {"trial_program_fuzzer", "machine_program_fuzzer.dict", std::chrono::seconds{25}, 20'000},
}};

// A target is given up only long after its time: its last input, and on a slow machine its seeds, take what
// they take.
constexpr std::chrono::seconds patience{600};

std::string text_option(std::string_view name, const std::filesystem::path& value) {
    return fmt::format("-{}={}", name, value.string());
}

// The name of the input that stopped a target; empty: it wrote none.
std::string reproducer_of(const std::filesystem::path& directory) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator{directory, error}) {
        // What was only slow, on a machine that is busy, stopped nothing.
        if (!entry.path().filename().string().starts_with("slow-unit")) return entry.path().string();
    }
    return {};
}

// What a target's run came to.
struct Verdict {
    std::string why;   // empty: nothing was found
    std::string said;  // otherwise how far it came
};

std::string test_of(const FuzzTarget& target) {
    return fmt::format("fuzz.{}", target.name);
}

Result<Verdict> run_target(const FuzzTarget& target) {
    const std::filesystem::path program = build_directory() / "fuzz" / target.name;
    if (!std::filesystem::exists(program)) {
        return Verdict{fmt::format("{} was not built: clang++ was missing when the build was configured",
                                   program.string()),
                       {}};
    }
    // What the search finds new is of no use later: the same is found again.
    const TemporaryDirectory found = TRY(TemporaryDirectory::create());
    const std::filesystem::path kept = build_directory() / "fuzz" / "reproducers" / target.name;
    std::error_code error;
    std::filesystem::remove_all(kept, error);
    TRY(make_directory(kept));
    const std::filesystem::path folder = source_directory() / "fuzz";
    CommandLine command;
    command.arguments = {program.string(),
                         fmt::format("-max_total_time={}", target.time.count()),
                         fmt::format("-runs={}", target.runs),
                         "-seed=1",
                         fmt::format("-timeout={}", patience.count() / 2),
                         "-print_final_stats=1",
                         text_option("dict", folder / target.dictionary),
                         text_option("artifact_prefix", kept / ""),
                         found.path().string(),
                         (folder / "corpus" / target.name).string()};
    const Finished finished = TRY(run_to_end(std::move(command), target.time + patience));
    const auto result = parse_fuzz_result(finished.output);
    if (finished.status == 0 && result) {
        return Verdict{{}, fmt::format("{} inputs in {} s", result->runs, result->time.count())};
    }
    const std::string reproducer = reproducer_of(kept);
    return Verdict{
        fmt::format("{}\n{}",
                    reproducer.empty() ? "it stopped without naming an input; its last lines:"
                                       : fmt::format("{} {} stops it:", program.string(), reproducer),
                    last_lines(finished.output)),
        {}};
}

void tell(const FuzzTarget& target, const Verdict& verdict, TestReport& report) {
    if (!verdict.why.empty()) {
        report.fail(test_of(target), verdict.why);
        return;
    }
    fmt::print("        {}: {}\n", test_of(target), verdict.said);
    report.pass(test_of(target));
}

}  // namespace

std::optional<FuzzResult> parse_fuzz_result(std::string_view output) {
    constexpr std::string_view before = "\nDone ";
    constexpr std::string_view between = " runs in ";
    const std::size_t start = output.rfind(before);
    if (start == std::string_view::npos) return std::nullopt;
    output.remove_prefix(start + before.size());
    const auto number = [&output](auto& value) {
        const char* end = output.data() + output.size();
        const auto [stopped, code] = std::from_chars(output.data(), end, value);
        output.remove_prefix(static_cast<std::size_t>(stopped - output.data()));
        return code == std::errc{};
    };
    FuzzResult result;
    std::int64_t seconds = 0;
    if (!number(result.runs) || !output.starts_with(between)) return std::nullopt;
    output.remove_prefix(between.size());
    if (!number(seconds)) return std::nullopt;
    result.time = std::chrono::seconds{seconds};
    return result;
}

Result<> run_fuzz_targets(TestReport& report) {
    // A target has one thread: the one with the most time runs beside the others.
    const FuzzTarget& longest = fuzz_targets.back();
    std::future<Result<Verdict>> beside;
    if (report.selects(test_of(longest)))
        beside = std::async(std::launch::async, [&longest] { return run_target(longest); });
    for (const FuzzTarget& target : std::span{fuzz_targets}.first(fuzz_targets.size() - 1)) {
        if (report.selects(test_of(target))) tell(target, TRY(run_target(target)), report);
    }
    if (beside.valid()) tell(longest, TRY(beside.get()), report);
    return {};
}

}  // namespace flatback::tools
