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
#include "tools/stack/xen_guest.hpp"

namespace flatback::tools {
namespace {

std::vector<std::string> guest_words(const ConformOptions& options) {
    std::vector<std::string> words{"check", "rules"};
    if (options.costs) words.emplace_back("bench");
    if (!options.only.empty()) words.push_back(fmt::format("only={}", options.only));
    return words;
}

constexpr unsigned image_memory = 1024;

Result<QueuedRun> run_for(const ConformOptions& options) {
    if (options.image)
        return image_run("conform", *options.image, options.memory.value_or(image_memory), options.limit);
    const std::vector<std::string> words = guest_words(options);
    if (options.under == "flatback" || options.under == "direct") {
        const std::string l0_words = fmt::format("log=quiet {}", options.l0_command_line);
        QueuedRun run = bare_run("conform", options.under == "direct" ? nullptr : l0_words.c_str(),
                                 fmt::format("{}", fmt::join(words, " ")), options.limit);
        if (options.l0) run.request.plan.l0 = *options.l0;
        return run;
    }
    if (options.under == "xen")
        return bare_above_xen("conform", TRY(prepare_xen_guest(tell)), words, options.limit);
    const LinuxGuest linux = TRY(prepare_linux_guest(tell));
    const PeerGuest peer = TRY(prepare_peer_guest(linux));
    return peer_run("conform", peer,
                    fmt::format("peer.l1=bare-checks peer.bare.{}", fmt::join(words, " peer.bare.")),
                    options.limit);
}

// Bochs says of a file that is no CD only that it can't boot.
Result<> check_image(const std::filesystem::path& image) {
    // ECMA-119 8.1: the first volume descriptor is sector 16, its identifier the second byte.
    constexpr std::size_t identifier_at = 16 * 2048 + 1;
    constexpr std::string_view identifier = "CD001";
    const Bytes bytes = TRY(read_file(image));
    const std::string_view text = text_of(bytes);
    if (text.size() < identifier_at || !text.substr(identifier_at).starts_with(identifier))
        return fail(ExitStatus::input_file, fmt::format("{} is no ISO image", image.string()));
    return {};
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
    if (options.image) TRY(check_image(*options.image));
    if (options.json_file) TRY(check_output(*options.json_file));
    if (options.junit_file) TRY(check_output(*options.junit_file));
    std::FILE* const text = text_stream(options.json_file, options.junit_file);
    Progress progress;
    std::vector<QueuedRun> runs;
    runs.push_back(TRY(run_for(options)));
    runs.front().request.processor = options.processor;
    const auto finished = TRY(run_all(std::move(runs), progress.observer()));
    // Of a file its name: where it lies is no one's business who reads the report.
    const std::string under = options.image ? options.image->filename().string() : options.under;
    Conformance conformance = conformance_of(under, finished.front().transcript);
    conformance.incomplete = what_is_incomplete(finished.front());
    if (options.image && conformance.incomplete.empty() && conformance.results.empty())
        conformance.incomplete =
            "its bare L1 told no result with its rule: boot it with the words check bench rules";
    fmt::print(text, "{}", conformance_text(conformance));
    if (options.json_file) TRY(write_output(*options.json_file, with_about(conformance_json(conformance))));
    if (options.junit_file) TRY(write_output(*options.junit_file, conformance_junit(conformance)));
    const bool good = conformance.incomplete.empty() && conformance.count(ConformanceOutcome::failed) == 0;
    return good ? ExitStatus::success : ExitStatus::incomplete;
}

}  // namespace flatback::tools
