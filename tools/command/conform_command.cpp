#include "tools/command/conform_command.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tools/check/conformance.hpp"
#include "tools/check/conformance_output.hpp"
#include "tools/ground/about.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/output.hpp"
#include "tools/image/linux_guest.hpp"
#include "tools/stack/peer_guest.hpp"
#include "tools/stack/progress.hpp"
#include "tools/stack/stack_runs.hpp"

namespace flatback::tools {
namespace {

std::vector<std::string> guest_words(const ConformOptions& options) {
    std::vector<std::string> words{"check", "rules"};
    if (options.costs) words.emplace_back("bench");
    if (!options.only.empty()) words.push_back(fmt::format("only={}", options.only));
    return words;
}

// Standard output is for the report.
void say(std::string_view text) {
    fmt::print(stderr, "flatback: {}\n", text);
}

Result<QueuedRun> run_for(const ConformOptions& options) {
    const std::vector<std::string> words = guest_words(options);
    if (options.under != "kvm") {
        const std::string l0_words = fmt::format("log=quiet {}", options.l0_command_line);
        QueuedRun run = bare_run("conform", options.under == "direct" ? nullptr : l0_words.c_str(),
                                 fmt::format("{}", fmt::join(words, " ")), options.limit);
        if (options.l0) run.request.plan.l0 = *options.l0;
        return run;
    }
    const LinuxGuest linux = TRY(prepare_linux_guest(say));
    const PeerGuest peer = TRY(prepare_peer_guest(linux));
    return peer_run("conform", peer,
                    fmt::format("peer.l1=bare-checks peer.bare.{}", fmt::join(words, " peer.bare.")),
                    options.limit);
}

// Failed checks are the report's subject, and no shortcoming of the run.
std::string what_is_incomplete(const FinishedRun& run) {
    std::string text;
    for (const std::string& lack : shortcomings(run, {"bare-l1"})) {
        if (lack.starts_with(fmt::format("{}: check ", run.name))) continue;
        text += fmt::format("{}{}", text.empty() ? "" : "; ", lack);
    }
    return text;
}

}  // namespace

Result<ExitStatus> conform_command(const ConformOptions& options) {
    // Before the minutes of the run, not after them.
    if (options.l0) {
        [[maybe_unused]] const Bytes readable = TRY(read_file(*options.l0));
    }
    if (options.json_file) TRY(check_output(*options.json_file));
    if (options.junit_file) TRY(check_output(*options.junit_file));
    std::FILE* const text = text_stream(options.json_file, options.junit_file);
    Progress progress;
    std::vector<QueuedRun> runs;
    runs.push_back(TRY(run_for(options)));
    const auto finished = TRY(run_all(std::move(runs), progress.observer()));
    Conformance conformance = conformance_of(options.under, finished.front().transcript);
    conformance.incomplete = what_is_incomplete(finished.front());
    fmt::print(text, "{}", conformance_text(conformance));
    if (options.json_file) TRY(write_output(*options.json_file, with_about(conformance_json(conformance))));
    if (options.junit_file) TRY(write_output(*options.junit_file, conformance_junit(conformance)));
    const bool good = conformance.incomplete.empty() && conformance.count(ConformanceOutcome::failed) == 0;
    return good ? ExitStatus::success : ExitStatus::incomplete;
}

}  // namespace flatback::tools
