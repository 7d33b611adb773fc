#include "tools/check/random_tests.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdio>
#include <map>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "tools/check/random_log.hpp"
#include "tools/emulator/emulation.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/paths.hpp"

namespace flatback::tools {
namespace {

// A case has a dozen steps or more, each with a result at least.
constexpr std::uint64_t least_results = 8;
constexpr std::uint64_t enough_cases = 8;

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds poll_interval{50};
// Of the emulator's processor time, both: a slow or busy machine makes nothing longer.
constexpr std::chrono::seconds longest_boot{300};
constexpr std::chrono::seconds longest_step{40};
constexpr std::string_view promise_key = "random.promise";
constexpr std::string_view set_aside_key = "random.set_aside.";
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
    bool ended = false;  // every case was run
    std::string said;    // how it ended, for people
};

struct Pair {
    Boot under_l0;
    Boot directly;
};

struct Running {
    explicit Running(Emulation started) : emulation{std::move(started)} {}
    bool is_over();

    Emulation emulation;
    std::optional<Outcome> outcome = {};
    std::string stuck = {};  // why nothing more is waited for
    std::size_t last_size = 0;
    std::chrono::nanoseconds last_growth{0};
    Clock::time_point next_look = Clock::now();
};

class Comparer final {
public:
    Comparer(TestReport& report, const RandomOptions& options) : report_{report}, options_{options} {}

    Result<> run();

private:
    Result<Pair> boot(const Cases& cases);
    Result<Emulation> start(const Cases& cases, bool with_l0, std::string* promise);
    Boot finish(const Running& run, std::string_view name);
    void count_set_aside(const std::map<std::string, std::string>& texts);
    Result<> compare(const Cases& cases, const Pair& pair);
    Result<> show(const RandomDifference& difference);
    Result<std::uint64_t> shorten(const RandomDifference& difference);

    TestReport& report_;
    const RandomOptions& options_;
    std::string promise_;  // what L0 offers its guests: the direct run is told to use no more
    std::map<std::string, std::size_t> marks_;
    std::map<std::string, std::uint64_t> set_aside_;  // what the emulator has wrong: how often it was met
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
    if (!options_.without.empty()) request.plan.guest_command_line += " without=" + options_.without;
    if (!with_l0) request.plan.guest_command_line += " promise=" + promise_;
    request.limit = std::chrono::hours{24};
    request.watches_halts = false;  // the console is what is compared
    if (promise != nullptr) {
        request.listener = [promise](std::string_view, const SerialRecord* record) {
            const auto* text = record == nullptr ? nullptr : std::get_if<TextRecord>(record);
            if (text != nullptr && text->key == promise_key) *promise = text->text;
        };
    }
    return Emulation::start(std::move(request));
}

Boot Comparer::finish(const Running& run, std::string_view name) {
    Boot boot;
    const std::string console = run.emulation.console();
    if (options_.logs) {
        const auto file = *options_.logs / fmt::format("{}-{}.txt", boots_, name);
        if (const auto written = write_file(file, console); !written)
            fmt::print("{}\n", written.error().message);
    }
    boot.lines = parse_random_log(console);
    // The emulator is ended within a line, perhaps, and has words of its own behind it.
    if (!run.stuck.empty() && !boot.lines.empty()) boot.lines.pop_back();
    boot.ended = run.emulation.transcript().ended();
    boot.said = run.stuck.empty() ? describe(*run.outcome, run.emulation.transcript()) : run.stuck;
    return boot;
}

// The guest tells how often it met what the emulator is known to have wrong: "TIMES SECTION: RULE ...".
void Comparer::count_set_aside(const std::map<std::string, std::string>& texts) {
    for (const auto& [key, text] : texts) {
        if (!key.starts_with(set_aside_key)) continue;
        std::uint64_t times = 0;
        const char* const end = text.data() + text.size();
        const auto [stopped, code] = std::from_chars(text.data(), end, times);
        if (code != std::errc{} || stopped == end) continue;
        set_aside_[key.substr(set_aside_key.size()) + std::string{stopped, end}] += times;
    }
}

// Whether the run is over: by itself, or because nothing comes any more. A step takes a small part of a
// second.
bool Running::is_over() {
    if (outcome || !stuck.empty()) return true;
    outcome = emulation.poll();
    if (outcome) return true;
    const auto now = Clock::now();
    if (now < next_look) return false;
    next_look = now + std::chrono::seconds{2};
    const std::size_t size = emulation.console().size();
    if (size != last_size) {
        last_size = size;
        last_growth = emulation.processor_time();
    }
    const auto used = emulation.processor_time();
    if (used > longest_boot) {
        stuck = fmt::format("not ended after {} s of the emulator's processor time", longest_boot.count());
    } else if (used - last_growth > longest_step &&
               emulation.transcript().texts().contains(std::string{promise_key})) {
        stuck =
            fmt::format("stuck: no result for {} s of the emulator's processor time", longest_step.count());
    }
    return !stuck.empty();
}

Result<Pair> Comparer::boot(const Cases& cases) {
    ++boots_;
    Running under_l0{TRY(start(cases, true, &promise_))};
    std::optional<Running> directly;
    for (;;) {
        const bool over = under_l0.is_over();
        if (over && promise_.empty())
            return fail(ExitStatus::incomplete,
                        fmt::format("the random L1 did not start under L0: {}",
                                    describe(*under_l0.outcome, under_l0.emulation.transcript())));
        if (!directly && !promise_.empty()) directly.emplace(Running{TRY(start(cases, false, nullptr))});
        if (over && directly && directly->is_over()) break;
        if (directly) (void)directly->is_over();
        std::this_thread::sleep_for(poll_interval);
    }
    for (const Running* run : {&under_l0, &*directly}) {
        if (run->outcome && run->outcome->ending == Ending::interrupted)
            return fail(ExitStatus::interrupted, "interrupted");
    }
    count_set_aside(directly->emulation.transcript().texts());
    return Pair{finish(under_l0, "l0"), finish(*directly, "direct")};
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
        // The step that the one did not survive is the line that only the other has.
        const Boot& longer = pair.under_l0.ended ? pair.under_l0 : pair.directly;
        const std::size_t at = std::min(pair.under_l0.lines.size(), pair.directly.lines.size());
        const std::string next =
            at < longer.lines.size()
                ? fmt::format("\n  the other goes on with case {} step {}: {}", longer.lines[at].case_number,
                              longer.lines[at].step, longer.lines[at].text)
                : std::string{};
        report_.fail(
            fmt::format("random.seed{}.from{}", cases.seed, cases.first),
            fmt::format("only one of the two ended\n  under L0: {}; last {}\n  directly: {}; last {}{}",
                        pair.under_l0.said, place(pair.under_l0), pair.directly.said, place(pair.directly),
                        next));
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
    // An L1 that is broken ends each case at once, with L0 and without: nothing differs, and nothing was
    // compared.
    const std::uint64_t cases = first - options_.first;
    if (cases >= enough_cases && lines < least_results * cases)
        report_.fail(
            fmt::format("random.seed{}.results", options_.seed),
            fmt::format("{} cases gave {} results: less than {} a case, so that next to nothing was compared",
                        cases, lines, least_results));
    fmt::print("        random: {} cases, {} results, {} boots of each\n", cases, lines, boots_);
    for (const auto& [mark, count] : marks_) fmt::print("        random: {} times: {}\n", count, mark);
    for (const auto& [what, count] : set_aside_)
        fmt::print("        random: {} times set aside, as the emulator's: {}\n", count, what);
    return {};
}

}  // namespace

Result<> run_random_tests(TestReport& report, const RandomOptions& options) {
    return Comparer{report, options}.run();
}

}  // namespace flatback::tools
