#include "judge/explore/account.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "judge/explore/pair.hpp"
#include "judge/explore/pair_stepper.hpp"
#include "judge/explore/state.hpp"
#include "judge/explore/worst.hpp"

namespace flatback::machine::explore {

namespace {

constexpr unsigned key_count = 6;

/// Follows each entry from the step that made it.
struct Story {
    unsigned made = 0;
    Guest by = Guest::none;
    /// When the bare processor dropped what it has of the same content, and when it could not have it again.
    std::optional<unsigned> dropped{};
    std::optional<unsigned> died{};
};
using Stories = std::array<Story, key_count>;

/// ... by processor and tag; and those of guest-physical mappings, EPT01's last.
struct Tracked {
    std::array<std::array<Stories, most_tags>, cpu_count> entries{};
    std::array<std::array<Story, 5>, cpu_count> guest_physical{};
};

struct Seen {
    bool present = false;
    bool dead = false;
    bool bare = false;
};

/// `edit`: the step changed memory, which drops nothing.
void follow(Story& story, Seen before, Seen now, unsigned step, Guest by, bool edit) {
    if (!now.present) {
        story = {};
        return;
    }
    if (!before.present) story = {step, by, std::nullopt, std::nullopt};
    if (now.bare) story.dropped.reset();
    if (before.present && before.bare && !now.bare && !edit && !story.dropped) story.dropped = step;
    if (now.dead && !before.dead) story.died = step;
}

/// What one virtual CPU's State says, from step to step.
class Teller {
public:
    /// `tag_of`: the number that the reader knows, of what the State calls a tag in the beginning.
    template <typename TagOf>
    Teller(std::span<const Action> program, const State& initial, unsigned cpu, unsigned processor,
           std::string_view names, TagOf&& tag_of)
        : program_(program), cpu_(cpu), processor_(processor), cpu_names_(names) {
        for (unsigned tag = 0; tag < most_tags; ++tag) names_[tag] = tag_of(tag) + 1;
        const State nothing{};
        follow_all(nothing, initial, 0, false);
    }

    /// `renamed`: by tag, what it was called before. `whole`: nothing was broken.
    void follow(State before, const State& now, unsigned step, std::span<const std::uint8_t> renamed,
                bool whole) {
        const Action& action = program_[step - 1];
        const Action::Kind kind = action.kind;
        if (kind == Action::Kind::exchange ||
            (kind == Action::Kind::move && action.l1_cpu.value_or(cpu_) == cpu_)) {
            processor_ ^= 1;
            std::swap(tracked_.entries[0], tracked_.entries[1]);
            std::swap(tracked_.guest_physical[0], tracked_.guest_physical[1]);
            std::swap(before.entries[0], before.entries[1]);
            std::swap(before.guest_physical[0], before.guest_physical[1]);
        }
        if (whole) rename(before, renamed);
        follow_all(before, now, step, kind == Action::Kind::edit_page || kind == Action::Kind::edit_ept);
    }

    /// What was broken at the last step, in lines.
    [[nodiscard]] std::vector<std::string> explain(const Broken& broken, const State& state) {
        lines_.clear();
        tell(broken, state, static_cast<unsigned>(program_.size()));
        return std::move(lines_);
    }

private:
    void say(std::string line) { lines_.push_back(std::move(line)); }

    /// Tags are named by their use; the reader knows them by the number they always had.
    void rename(State& before, std::span<const std::uint8_t> renamed) {
        const auto names = names_;
        const auto tracked = tracked_.entries;
        const auto entries = before.entries;
        for (unsigned tag = 0; tag < most_tags; ++tag) {
            names_[tag] = names[renamed[tag]];
            for (unsigned cpu = 0; cpu < cpu_count; ++cpu) {
                tracked_.entries[cpu][tag] = tracked[cpu][renamed[tag]];
                before.entries[cpu][tag] = entries[cpu][renamed[tag]];
            }
        }
    }

    void follow_all(const State& before, const State& now, unsigned step, bool edited) {
        for (unsigned cpu = 0; cpu < cpu_count; ++cpu) {
            for (unsigned tag = 0; tag < most_tags; ++tag) {
                for (unsigned key = 0; key < key_count; ++key) {
                    const Seen seen = entry_seen(now, cpu, tag, key);
                    Seen then = entry_seen(before, cpu, tag, key);
                    if (before.entries[cpu][tag].owner != now.entries[cpu][tag].owner) then = {};
                    explore::follow(tracked_.entries[cpu][tag][key], then, seen, step,
                                    now.entries[cpu][tag].guest(), edited);
                }
            }
            for (unsigned context = 0; context < 5; ++context) {
                explore::follow(tracked_.guest_physical[cpu][context], mapping_seen(before, cpu, context),
                                mapping_seen(now, cpu, context), step, now.running(), edited);
            }
        }
    }

    static Seen entry_seen(const State& state, unsigned cpu, unsigned tag, unsigned key) {
        const Entries& entries = state.entries[cpu][tag];
        const Keys bit = 1U << key;
        return {(entries.present() & bit) != 0, (entries.dead & bit) != 0,
                is_l2(entries.guest()) && (state.bare[bare_index(entries.guest())] & bit) != 0};
    }
    static Seen mapping_seen(const State& state, unsigned cpu, unsigned context) {
        const GuestPhysical& mappings = state.guest_physical[cpu];
        if (context == 4)
            return {mappings.l1_fresh != 0 || mappings.l1_dead != 0, mappings.l1_dead != 0, false};
        const auto in = [context](unsigned bits) { return (bits >> context & 1) != 0; };
        return {in(mappings.fresh | mappings.old_ept | mappings.dead), in(mappings.dead),
                in(state.bare_guest_physical)};
    }

    [[nodiscard]] std::string step_name(unsigned step) const {
        if (step == 0) return "the start";
        return fmt::format("step {} ({})", step, describe(program_[step - 1], cpu_names_));
    }

    static std::string_view page_of(unsigned key) {
        constexpr std::array<std::string_view, 3> pages = {"page 0 under PCID 0", "page 0 under PCID 1",
                                                           "page 1, global"};
        return pages.at(key % keys_of_eptp);
    }

    void tell(const Broken& broken, const State& state, unsigned step) {
        const unsigned processor = broken.cpu == here ? processor_ : processor_ ^ 1;
        const std::string who = describe(broken.guest);
        if (broken.kind == Broken::Kind::dead_guest_physical) {
            const auto key = static_cast<unsigned>(std::countr_zero(broken.keys));
            const unsigned context =
                broken.of_ept01 ? 4U : 2U * state.eptp + (key % keys_of_eptp == 2 ? 1U : 0U);
            const Story& story = tracked_.guest_physical[broken.cpu][context];
            say(fmt::format(
                "{} may be served at step {} by a walk with a guest-physical mapping on processor {}, "
                "of {}, made at {}.",
                who, step, processor,
                broken.of_ept01 ? "EPT01"
                                : fmt::format("EPTP {}, page {}", context < 2 ? 'x' : 'y', context % 2),
                step_name(story.made)));
            say_when(story);
            return;
        }
        const auto key = static_cast<unsigned>(std::countr_zero(broken.keys));
        const Story& story = tracked_.entries[broken.cpu][broken.tag][key];
        const bool of_l2 = is_l2(alike(story.by));
        const std::string entry = of_l2
                                      ? fmt::format("the combined mapping of {}, EPTP {}", page_of(key),
                                                    key < keys_of_eptp ? 'x' : 'y')
                                      : fmt::format("a mapping of page {}", key % keys_of_eptp == 2 ? 1 : 0);
        say(fmt::format("{} {} at step {} {} {} on processor {} under tag {}, made at {} by {}.", who,
                        broken.kind == Broken::Kind::other_owner ? "is entered" : "may be served", step,
                        broken.kind == Broken::Kind::other_owner ? "where there is" : "by", entry, processor,
                        names_[broken.tag], step_name(story.made), describe(story.by)));
        if (broken.kind == Broken::Kind::other_owner) {
            say(fmt::format("It should have gone before {}, as the tag has another owner.", step_name(step)));
        } else {
            say_when(story);
        }
    }

    void say_when(const Story& story) {
        if (story.dropped && story.dropped != story.died) {
            say(fmt::format("It should have gone at {}, where the bare processor drops it.",
                            step_name(*story.dropped)));
            if (story.died) say(fmt::format("It is wrong since {}.", step_name(*story.died)));
        } else if (story.died) {
            say(fmt::format("It should have gone at {}.", step_name(*story.died)));
        }
    }

    std::span<const Action> program_;
    unsigned cpu_;
    unsigned processor_;  // that it is on
    std::string_view cpu_names_;
    Tracked tracked_;
    std::array<unsigned, most_tags> names_{};
    std::vector<std::string> lines_;
};

std::string line_of(unsigned step, const Action& action, std::string_view cpu_names) {
    return fmt::format("{:4}  {}", step, describe(action, cpu_names));
}

std::vector<std::string> tell_of_one(const Options& options, std::span<const Action> program) {
    Stepper stepper(options.alphabet, options.defect);
    State state = stepper.initial();
    Teller teller(program, state, 0, 0, "CPU", [](unsigned tag) { return tag; });
    std::vector<std::string> lines;
    for (unsigned step = 1; step <= program.size(); ++step) {
        lines.push_back(line_of(step, program[step - 1], "CPU"));
        const State before = state;
        const std::optional<Broken> broken = stepper.take(state, program[step - 1]);
        if (options.worst && !broken) assume_the_worst(state);
        teller.follow(before, state, step, stepper.manager().renamed(), !broken);
        if (broken) std::ranges::move(teller.explain(*broken, state), std::back_inserter(lines));
    }
    return lines;
}

/// Of two virtual CPUs each has its own view, and says what it was that it met.
std::vector<std::string> tell_of_two(const Options& options, std::span<const Action> program) {
    PairStepper stepper(options.alphabet, options.defect);
    PairState pair = stepper.initial();
    const std::string_view names = options.alphabet.vms > 1 ? "VM" : "CPU";
    const auto teller_of = [&](unsigned cpu) {
        return Teller(program, view_of(pair, cpu), cpu, processor_of(pair, cpu), names,
                      [&](unsigned tag) { return tag_of_pair(pair, cpu, tag); });
    };
    std::array<Teller, l1_cpu_count> tellers{teller_of(0), teller_of(1)};
    std::vector<std::string> lines;
    for (unsigned step = 1; step <= program.size(); ++step) {
        lines.push_back(line_of(step, program[step - 1], names));
        const PairState before = pair;
        const std::optional<Broken> broken = stepper.take(pair, program[step - 1]);
        if (options.worst && !broken) assume_the_worst(pair);
        for (unsigned cpu = 0; cpu < l1_cpu_count; ++cpu) {
            std::array<std::uint8_t, most_tags> renamed{};
            for (unsigned tag = 0; tag < most_tags; ++tag) {
                const unsigned then = stepper.renamed()[tag_of_pair(pair, cpu, tag)];
                renamed[tag] = static_cast<std::uint8_t>(tag_of_view(before, cpu, then));
            }
            tellers[cpu].follow(view_of(before, cpu), view_of(pair, cpu), step, renamed, true);
        }
        if (!broken) continue;
        const unsigned cpu = broken->l1_cpu;
        std::vector<std::string> story = tellers[cpu].explain(*broken, view_of(pair, cpu));
        story.front() = fmt::format("On {} {}, {}", names, cpu, story.front());
        std::ranges::move(story, std::back_inserter(lines));
    }
    return lines;
}

template <typename StepperOf>
bool breaks(StepperOf stepper, std::span<const Action> program) {
    auto state = stepper.initial();
    return std::ranges::any_of(program,
                               [&](const Action& action) { return stepper.take(state, action).has_value(); });
}

}  // namespace

std::vector<std::string> tell(const Options& options, std::span<const Action> program) {
    const bool two = options.alphabet.virtual_cpus() > 1;
    std::vector<std::string> lines = two ? tell_of_two(options, program) : tell_of_one(options, program);
    if (!options.worst || program.empty()) return lines;
    const bool exactly = two ? breaks(PairStepper{options.alphabet, options.defect}, program)
                             : breaks(Stepper{options.alphabet, options.defect}, program);
    lines.emplace_back(
        exactly ? "So it is without --worst, too."
                : "Without --worst this program breaks nothing: what the marks disown was not there.");
    return lines;
}

}  // namespace flatback::machine::explore
