#include "tools/random_tests.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <map>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "tools/emulation.hpp"
#include "tools/files.hpp"
#include "tools/paths.hpp"
#include "tools/random_log.hpp"

namespace flatback::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds poll_interval{50};
constexpr std::chrono::seconds boot_limit{300};
// Of one boot. The firmware and GRUB take 0.6 G instructions of it, as much as some hundred cases.
constexpr std::uint64_t cases_in_boot = 200;
constexpr std::uint64_t steps_in_case = 12;
// Differences that are shortened; further ones of the same mark are counted.
constexpr std::size_t most_shortened = 6;
constexpr std::size_t most_masks = 40;

// What one boot of the random L1 is told.
struct Cases {
    std::uint64_t seed = 1;
    std::uint64_t first = 0;
    std::uint64_t count = 1;
    std::vector<std::uint64_t> masks;
    bool everything = false;
};

std::string words_of(const Cases& cases) {
    std::string words = fmt::format("seed={} first={} cases={} steps={}", cases.seed, cases.first,
                                    cases.count, steps_in_case);
    for (std::size_t index = 0; index < cases.masks.size(); ++index)
        words += fmt::format("{}{:x}", index == 0 ? " masks=" : ",", cases.masks[index]);
    if (cases.everything) words += " everything";
    return words;
}

struct Boot {
    std::vector<RandomLine> lines;
    Outcome outcome;
    bool ended = false;  // every case was run
    std::string said;    // how it ended, for people
};

struct Pair {
    Boot under_l0;
    Boot directly;
};

class Comparer final {
public:
    Comparer(TestReport& report, const RandomOptions& options) : report_{report}, options_{options} {}

    Result<> run();

private:
    Result<Pair> boot(const Cases& cases);
    Result<Emulation> start(const Cases& cases, bool with_l0, std::string* promise);
    Boot finish(const Emulation& emulation, std::string_view name);
    Result<> compare(const Cases& cases, const Pair& pair);
    Result<> show(const RandomDifference& difference);
    Result<std::uint64_t> shorten(const RandomDifference& difference);

    TestReport& report_;
    const RandomOptions& options_;
    std::string promise_;  // what L0 offers its guests: the direct run is told to use no more
    std::map<std::string, std::size_t> marks_;
    std::size_t shortened_ = 0;
    unsigned boots_ = 0;
};

Result<Emulation> Comparer::start(const Cases& cases, bool with_l0, std::string* promise) {
    EmulationRequest request;
    if (with_l0) {
        request.plan.l0 = options_.l0.value_or(l0_image());
        request.plan.l0_command_line = "log=quiet " + options_.l0_command_line;
    }
    request.plan.guest = random_l1_image();
    request.plan.guest_command_line = words_of(cases);
    if (!with_l0) request.plan.guest_command_line += " promise=" + promise_;
    request.limit = boot_limit;
    if (promise != nullptr) {
        request.listener = [promise](std::string_view, const SerialRecord* record) {
            const auto* text = record == nullptr ? nullptr : std::get_if<TextRecord>(record);
            if (text != nullptr && text->key == "random.promise") *promise = text->text;
        };
    }
    return Emulation::start(std::move(request));
}

Boot Comparer::finish(const Emulation& emulation, std::string_view name) {
    Boot boot;
    const std::string console = emulation.console();
    if (options_.logs) {
        const auto file = *options_.logs / fmt::format("{}-{}.txt", boots_, name);
        if (const auto written = write_file(file, console); !written)
            fmt::print("{}\n", written.error().message);
    }
    boot.lines = parse_random_log(console);
    boot.ended = emulation.transcript().ended();
    return boot;
}

Result<Pair> Comparer::boot(const Cases& cases) {
    ++boots_;
    Emulation under_l0 = TRY(start(cases, true, &promise_));
    std::optional<Emulation> directly;
    Pair pair;
    for (;;) {
        const auto& one = under_l0.poll();
        if (one && promise_.empty())
            return fail(ExitStatus::incomplete, fmt::format("the random L1 did not start under L0: {}",
                                                            describe(*one, under_l0.transcript())));
        if (!directly && !promise_.empty()) directly.emplace(TRY(start(cases, false, nullptr)));
        if (directly) {
            const auto& other = directly->poll();
            if (one && other) {
                if (one->ending == Ending::interrupted || other->ending == Ending::interrupted)
                    return fail(ExitStatus::interrupted, "interrupted");
                pair.under_l0 = finish(under_l0, "l0");
                pair.under_l0.said = describe(*one, under_l0.transcript());
                pair.under_l0.outcome = *one;
                pair.directly = finish(*directly, "direct");
                pair.directly.said = describe(*other, directly->transcript());
                pair.directly.outcome = *other;
                return pair;
            }
        }
        std::this_thread::sleep_for(poll_interval);
    }
}

// The masks to try for a case that differs with `mask`: without each part of `parts` steps, and without each
// step.
std::vector<std::uint64_t> smaller_masks(std::uint64_t mask, std::uint64_t last_step) {
    std::vector<std::uint64_t> masks{mask};
    const auto add = [&](std::uint64_t smaller) {
        if (smaller != mask && std::ranges::find(masks, smaller) == masks.end() && masks.size() < most_masks)
            masks.push_back(smaller);
    };
    const std::uint64_t last = std::uint64_t{1} << last_step;
    add(last);
    std::vector<std::uint64_t> bits;
    for (std::uint64_t step = 0; step < last_step; ++step) {
        if ((mask >> step & 1) != 0) bits.push_back(std::uint64_t{1} << step);
    }
    for (const std::uint64_t bit : bits) add(bit | last);
    for (std::size_t width = bits.size() / 2; width >= 1; width /= 2) {
        for (std::size_t first = 0; first < bits.size(); first += width) {
            std::uint64_t without = mask;
            for (std::size_t i = first; i < std::min(first + width, bits.size()); ++i) without &= ~bits[i];
            add(without);
        }
    }
    return masks;
}

Result<std::uint64_t> Comparer::shorten(const RandomDifference& difference) {
    std::uint64_t mask = (std::uint64_t{2} << difference.step) - 1;
    // The same step must differ in every one of them: which of its results does may change with what came
    // before.
    for (;;) {
        Cases cases{options_.seed, difference.case_number, 1, smaller_masks(mask, difference.step), false};
        const Pair pair = TRY(boot(cases));
        std::uint64_t best = mask;
        bool again = false;
        for (const RandomDifference& found : differences(pair.under_l0.lines, pair.directly.lines)) {
            if (found.step != difference.step || found.variant >= cases.masks.size()) continue;
            if (found.variant == 0) again = true;
            const std::uint64_t candidate = cases.masks[found.variant];
            if (std::popcount(candidate) < std::popcount(best)) best = candidate;
        }
        if (best == mask) {
            if (again) return mask;
            return fail(ExitStatus::incomplete, "it needs the cases before it");
        }
        mask = best;
        if (std::popcount(mask) <= 1) return mask;
    }
}

// The lines of one case, for people.
std::string excerpt_of(const std::vector<RandomLine>& lines, std::uint64_t step) {
    std::string text;
    for (const RandomLine& line : lines) {
        if (line.step == step || !line.text.starts_with("  "))
            text += fmt::format("    {}: {}\n", line.step, line.text);
    }
    return text;
}

Result<> Comparer::show(const RandomDifference& difference) {
    const std::string test = fmt::format("random.seed{}.case{}", options_.seed, difference.case_number);
    const std::string mark = mark_of(difference);
    std::string why = fmt::format("step {}\n  under L0: {}\n  directly: {}\n", difference.step,
                                  difference.under_l0.empty() ? "(no more lines)" : difference.under_l0,
                                  difference.directly.empty() ? "(no more lines)" : difference.directly);
    const std::size_t known = marks_[mark]++;
    if (known != 0 || shortened_ == most_shortened) {
        report_.fail(test, why + "  (not shortened: one of the same kind was, or enough were)");
        return {};
    }
    ++shortened_;
    if (const auto mask = shorten(difference)) {
        Cases cases{options_.seed, difference.case_number, 1, {*mask}, true};
        const Pair pair = TRY(boot(cases));
        const auto found = differences(pair.under_l0.lines, pair.directly.lines);
        why += fmt::format("shortened: {}\n", words_of(cases));
        if (!found.empty()) {
            why += fmt::format("  under L0: {}\n  directly: {}\n", found[0].under_l0, found[0].directly);
        }
        why += "  directly, as far as it goes:\n" + excerpt_of(pair.directly.lines, difference.step);
    } else {
        if (mask.error().status == ExitStatus::interrupted) return std::unexpected{mask.error()};
        why += "not shortened: " + mask.error().message;
    }
    report_.fail(test, why);
    return {};
}

Result<> Comparer::compare(const Cases& cases, const Pair& pair) {
    for (const RandomDifference& difference : differences(pair.under_l0.lines, pair.directly.lines))
        TRY(show(difference));
    if (pair.under_l0.ended != pair.directly.ended) {
        const auto place = [](const Boot& boot) {
            return boot.lines.empty() ? std::string{"before the first line"}
                                      : fmt::format("case {} step {}: {}", boot.lines.back().case_number,
                                                    boot.lines.back().step, boot.lines.back().text);
        };
        report_.fail(
            fmt::format("random.seed{}.from{}", cases.seed, cases.first),
            fmt::format("only one of the two ended\n  under L0: {}; last {}\n  directly: {}; last {}",
                        pair.under_l0.said, place(pair.under_l0), pair.directly.said, place(pair.directly)));
    }
    return {};
}

Result<> Comparer::run() {
    const auto start = Clock::now();
    std::uint64_t first = options_.first;
    std::uint64_t lines = 0;
    while (Clock::now() - start < options_.time && first - options_.first < options_.most_cases) {
        const Cases cases{options_.seed,
                          first,
                          std::min(cases_in_boot, options_.most_cases - (first - options_.first)),
                          {},
                          false};
        const Pair pair = TRY(boot(cases));
        const std::size_t failed = report_.failed();
        TRY(compare(cases, pair));
        lines += pair.directly.lines.size();
        // Where both stopped in a case, the next boot begins behind it.
        std::uint64_t reached = first + cases.count;
        for (const Boot* one : {&pair.under_l0, &pair.directly}) {
            if (!one->ended && !one->lines.empty())
                reached = std::min(reached, one->lines.back().case_number + 1);
        }
        if (failed == report_.failed())
            report_.pass(fmt::format("random.seed{}.cases{}to{}", cases.seed, first, reached - 1));
        first = std::max(reached, first + 1);
    }
    fmt::print("        random: {} cases, {} results, {} boots of each\n", first - options_.first, lines,
               boots_);
    for (const auto& [mark, count] : marks_) fmt::print("        random: {} times: {}\n", count, mark);
    return {};
}

}  // namespace

Result<> run_random_tests(TestReport& report, const RandomOptions& options) {
    return Comparer{report, options}.run();
}

}  // namespace flatback::tools
