#include "judge/explore/account.hpp"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <optional>
#include <string_view>
#include <utility>

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

class Teller {
public:
    Teller(const Options& options, std::span<const Action> program)
        : stepper_(options.alphabet, options.defect), program_(program), state_(stepper_.initial()) {
        for (unsigned tag = 0; tag < most_tags; ++tag) names_[tag] = tag + 1;
        const State nothing{};
        follow_all(nothing, 0);
    }

    std::vector<std::string> tell() {
        for (std::size_t index = 0; index < program_.size(); ++index) {
            const Action& action = program_[index];
            const auto step = static_cast<unsigned>(index + 1);
            say(fmt::format("{:4}  {}", step, describe(action)));
            State before = state_;
            edited_ = action.kind == Action::Kind::edit_page || action.kind == Action::Kind::edit_ept;
            const std::optional<Broken> broken = stepper_.take(state_, action);
            if (action.kind == Action::Kind::move) {
                moved_ = !moved_;
                std::swap(tracked_.entries[0], tracked_.entries[1]);
                std::swap(tracked_.guest_physical[0], tracked_.guest_physical[1]);
                std::swap(before.entries[0], before.entries[1]);
                std::swap(before.guest_physical[0], before.guest_physical[1]);
            }
            if (!broken) rename(before);
            follow_all(before, step);
            if (broken) explain(*broken, step);
        }
        return std::move(lines_);
    }

private:
    void say(std::string line) { lines_.push_back(std::move(line)); }

    /// Tags are named by their use; the reader knows them by the number they always had.
    void rename(State& before) {
        const auto& renamed = stepper_.manager().renamed();
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

    void follow_all(const State& before, unsigned step) {
        for (unsigned cpu = 0; cpu < cpu_count; ++cpu) {
            for (unsigned tag = 0; tag < most_tags; ++tag) {
                for (unsigned key = 0; key < key_count; ++key) {
                    const Seen now = entry_seen(state_, cpu, tag, key);
                    Seen then = entry_seen(before, cpu, tag, key);
                    if (before.entries[cpu][tag].owner != state_.entries[cpu][tag].owner) then = {};
                    follow(tracked_.entries[cpu][tag][key], then, now, step, state_.entries[cpu][tag].guest(),
                           edited_);
                }
            }
            for (unsigned context = 0; context < 5; ++context) {
                follow(tracked_.guest_physical[cpu][context], mapping_seen(before, cpu, context),
                       mapping_seen(state_, cpu, context), step, state_.running(), edited_);
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
        return fmt::format("step {} ({})", step, describe(program_[step - 1]));
    }

    static std::string_view page_of(unsigned key) {
        constexpr std::array<std::string_view, 3> pages = {"page 0 under PCID 0", "page 0 under PCID 1",
                                                           "page 1, global"};
        return pages.at(key % keys_of_eptp);
    }

    void explain(const Broken& broken, unsigned step) {
        const unsigned processor = (broken.cpu == here) == moved_ ? 1 : 0;
        const std::string who = describe(broken.guest);
        if (broken.kind == Broken::Kind::dead_guest_physical) {
            const auto key = static_cast<unsigned>(std::countr_zero(broken.keys));
            const unsigned context =
                broken.of_ept01 ? 4U : 2U * state_.eptp + (key % keys_of_eptp == 2 ? 1U : 0U);
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
        const bool of_l2 = is_l2(story.by);
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

    Stepper stepper_;
    std::span<const Action> program_;
    State state_;
    Tracked tracked_;
    std::array<unsigned, most_tags> names_{};
    bool moved_ = false;
    bool edited_ = false;
    std::vector<std::string> lines_;
};

}  // namespace

std::vector<std::string> tell(const Options& options, std::span<const Action> program) {
    return Teller(options, program).tell();
}

}  // namespace flatback::machine::explore
