#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "tools/check/boot_test.hpp"
#include "tools/check/register_records.hpp"
#include "tools/check/screen_code.hpp"
#include "tools/trace/trace_file.hpp"
#include "tools/trace/trace_view.hpp"

namespace flatback::tools {
namespace {

// The trace that Linux wrote of nested-vpid=mapped: what is wrong with it; empty where nothing is.
std::string trace_is_wrong(const FinishedRun& run) {
    const auto trace = parse_trace(run.console);
    if (!trace) return trace.error().message;
    // Each vpid12 is flushed for once, when it gets its tag; KVM gives out a few while a VM starts.
    constexpr std::uint64_t most_tags = 16;
    std::uint64_t l2_entries = 0;
    std::uint64_t tags_flushed = 0;
    std::string_view last;
    for (const TraceEvent& event : view_events(trace->events)) {
        if (event.flush) {
            if (event.flush->instruction == "INVVPID") ++tags_flushed;
            continue;
        }
        const std::string_view now = event.kind == "entry" ? "entry" : "exit";
        if (now == last)
            return fmt::format("two times '{}' without the other between, tick {}", now, event.tick);
        last = now;
        if (event.kind == "entry" && event.to == "L2") ++l2_entries;
    }
    if (l2_entries < 1000) return fmt::format("only {} entries into L2", l2_entries);
    if (tags_flushed > most_tags) return fmt::format("{} tags were flushed in mode mapped", tags_flushed);
    return {};
}

// The code on the screen that the run left, read from the picture, and what COM1 says: what is wrong with it.
std::string screen_is_wrong(const FinishedRun& run, std::string_view key) {
    if (!run.screen_file || !run.screen_error.empty())
        return run.screen_error.empty() ? "no screen was asked for" : run.screen_error;
    const auto told = RunValues{run.transcript}.text(key);
    if (!told) return fmt::format("{} was not told", key);
    const auto shown = read_code(*run.screen_file);
    if (!shown) return shown.error().message;
    if (*shown == *told) return {};
    return fmt::format("the screen's code is {}, and COM1 has {}", *shown, *told);
}

// Where L0 differs from the processor that is emulated, as the SDM lets it: of bad controls and bad host
// state, and of a bad link pointer and other bad guest state, either may be found (3C 27.2, 27.3).
constexpr std::array<std::string_view, 2> open_orders{"bad-control-and-bad-host",
                                                      "bad-link-pointer-and-bad-guest"};

}  // namespace

void judge_run(TestReport& report, const BootTest& test, const FinishedRun& run) {
    const std::string said = describe(run.outcome, run.transcript);
    if (test.shuts_down) {
        const bool shut_down = run.outcome.ending == Ending::triple_fault;
        report.add(run.name, shut_down && run.transcript.checks().empty(), said);
        return;
    }
    if (test.ending) {
        const bool good = run.outcome.ending == *test.ending && said.find(test.word) != std::string::npos;
        const std::string wrong = test.judge_text != nullptr ? test.judge_text(run.transcript) : "";
        report.add(run.name, good && wrong.empty(),
                   wrong.empty() ? said : fmt::format("{}; {}", said, wrong));
        return;
    }
    for (const CheckRecord& check : run.transcript.checks()) {
        const std::string name = fmt::format("{}.{}", run.name, check.name);
        const bool must_fail = std::ranges::count(test.failing, check.name) != 0;
        report.add(name, check.passed != must_fail, check.passed ? "passed" : check.why);
    }
    for (const std::string_view name : test.failing) {
        const bool told = std::ranges::any_of(run.transcript.checks(),
                                              [&](const CheckRecord& check) { return check.name == name; });
        if (!told) report.fail(fmt::format("{}.{}", run.name, name), "nothing was told");
    }
    auto lacks = shortcomings(run, test.stages);
    // Failed checks are counted above, each by itself.
    std::erase_if(lacks, [&](const std::string& lack) { return lack.starts_with(run.name + ": check "); });
    if (test.judge_values == nullptr) {
        if (run.transcript.checks().empty()) lacks.emplace_back("no check was reported");
    } else if (std::string wrong = test.judge_values(RunValues{run.transcript}); !wrong.empty()) {
        lacks.push_back(std::move(wrong));
    }
    if (test.judge_text != nullptr) {
        if (std::string wrong = test.judge_text(run.transcript); !wrong.empty())
            lacks.push_back(std::move(wrong));
    }
    for (const std::string_view text : test.printed) {
        if (run.transcript.text().find(text) == std::string::npos)
            lacks.push_back(fmt::format("\"{}\" was not printed", text));
    }
    if (!test.code_on_screen.empty()) {
        if (std::string wrong = screen_is_wrong(run, test.code_on_screen); !wrong.empty())
            lacks.push_back(std::move(wrong));
    }
    std::string why;
    for (const std::string& lack : lacks) why += (why.empty() ? "" : "; ") + lack;
    report.add(run.name, lacks.empty(), why);
    if (run.name == linux_trace_name) {
        const std::string wrong = trace_is_wrong(run);
        report.add(fmt::format("{}.events", run.name), wrong.empty(), wrong);
    }
}

// Where both runs were made.
void judge_registers(TestReport& report, const std::vector<FinishedRun>& runs) {
    const auto records = [&](std::string_view name) -> std::optional<RegisterRecords> {
        const auto found = std::ranges::find(runs, name, &FinishedRun::name);
        if (found == runs.end()) return std::nullopt;
        return RunValues{found->transcript}.texts_under("registers.");
    };
    const auto direct = records(registers_direct_name);
    const auto under_l0 = records(registers_name);
    if (!direct || !under_l0) return;
    const RegisterComparison compared =
        compare_registers(*direct, *under_l0, deliberate_register_differences());
    fmt::print("Registers that L0 has otherwise than the emulated processor, on purpose:\n");
    for (const std::string& line : compared.deliberate) fmt::print("  {}\n", line);
    report.add(fmt::format("{}.are-those-of-the-processor", registers_name),
               !direct->empty() && compared.unexpected.empty(),
               direct->empty() ? "no register was recorded"
                               : fmt::format("{}", fmt::join(compared.unexpected, "; ")));
}

// What GRUB gives a Multiboot 1 kernel without L0, L0 gives it too, but for memory of its own and for what
// GRUB does not tell L0 itself: VBE's state in text mode.
void compare_information(TestReport& report, std::span<const FinishedRun> runs) {
    const auto texts = [&runs](std::string_view name) -> std::map<std::string, std::string> {
        std::map<std::string, std::string> found;
        for (const FinishedRun& run : runs) {
            if (run.name != name) continue;
            for (const auto& [key, text] : run.transcript.texts()) {
                const bool stated = key.starts_with("information.vbe") ||
                                    key.starts_with("information.map.") || key == "information.mem_lower" ||
                                    key == "information.mem_upper";
                if (key.starts_with("information.") && !stated) found.emplace(key, text);
            }
        }
        return found;
    };
    const auto direct = texts(information_direct_name);
    const auto under_l0 = texts(information_name);
    if (direct.empty() && under_l0.empty()) return;
    std::string wrong;
    auto keys = direct;
    keys.insert(under_l0.begin(), under_l0.end());
    for (const auto& [key, text] : keys) {
        const auto one = direct.find(key);
        const auto other = under_l0.find(key);
        const std::string said = one == direct.end() ? "nothing" : one->second;
        const std::string got = other == under_l0.end() ? "nothing" : other->second;
        if (said != got)
            wrong += fmt::format("{}{}: {} by GRUB, {} by L0", wrong.empty() ? "" : "; ", key, said, got);
    }
    report.add("boot.world.information-is-grubs", wrong.empty(), wrong);
}

namespace {

// Whether the bare L1 is told which of its parts to run: alone, or as a module of the L0 that is L1.
bool runs_some_parts(const BootTest& test) {
    constexpr std::string_view word = "only=";
    const BootPlan& plan = test.run.request.plan;
    return plan.guest_command_line.find(word) != std::string::npos ||
           std::ranges::any_of(plan.modules, [word](const BootModule& module) {
               return module.text.find(word) != std::string::npos;
           });
}

}  // namespace

// What the bare L1 reports of orders that the SDM leaves open: under L0 as on the processor itself.
void compare_orders(TestReport& report, std::span<const BootTest> tests, std::span<const FinishedRun> runs) {
    constexpr std::string_view prefix = "bare_l1.order.";
    const auto direct = std::ranges::find(runs, bare_direct_name, &FinishedRun::name);
    if (direct == runs.end()) return;
    for (std::size_t index = 0; index < runs.size(); ++index) {
        const FinishedRun& run = runs[index];
        const bool checks = run.name.starts_with("boot.bare.") && !run.name.starts_with(registers_name);
        if (!checks || run.name.starts_with(bare_direct_name) || runs_some_parts(tests[index])) continue;
        for (const auto& [key, found] : direct->transcript.texts()) {
            if (!key.starts_with(prefix)) continue;
            const auto here = run.transcript.texts().find(key);
            const std::string text = here == run.transcript.texts().end() ? "nothing" : here->second;
            if (std::ranges::count(open_orders, key.substr(prefix.size())) != 0) continue;
            report.add(fmt::format("{}.as-direct.{}", run.name, key.substr(prefix.size())), text == found,
                       fmt::format("{}; directly {}", text, found));
        }
    }
}

}  // namespace flatback::tools
