// What is taken for the worst that it can be hides nothing: it covers what there is, step by step.
#include "judge/explore/worst.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "judge/explore/account.hpp"
#include "judge/explore/pair_stepper.hpp"
#include "judge/explore/search.hpp"
#include "judge/explore/stepper.hpp"

namespace flatback::machine::explore::worst_test {
namespace {

/// Whether a key that one has as it is the other one has too, so or dead.
bool covers(std::uint32_t worse, std::uint32_t worse_dead, std::uint32_t better) {
    return (better & ~(worse | worse_dead)) == 0;
}
bool covers(const Entries& worse, const Entries& better) {
    const bool whose = worse.owner == better.owner || worse.owner == std::to_underlying(Guest::none);
    return (better.present() == 0 || whose) && covers(worse.fresh, worse.dead, better.fresh) &&
           covers(worse.old_ept, worse.dead, better.old_ept) && covers(worse.old, worse.dead, better.old) &&
           covers(worse.dead, worse.dead, better.dead);
}
bool covers(const GuestPhysical& worse, const GuestPhysical& better) {
    return covers(worse.fresh, worse.dead, better.fresh) &&
           covers(worse.old_ept, worse.dead, better.old_ept) && covers(worse.dead, worse.dead, better.dead) &&
           covers(worse.l1_fresh, worse.l1_dead, better.l1_fresh) &&
           covers(worse.l1_dead, worse.l1_dead, better.l1_dead);
}
bool covers(const EntriesOfTags& worse, const EntriesOfTags& better) {
    for (unsigned processor = 0; processor < cpu_count; ++processor) {
        for (unsigned tag = 0; tag < most_tags; ++tag) {
            if (!covers(worse[processor][tag], better[processor][tag])) return false;
        }
    }
    return true;
}
/// All but for what is cached is the same.
bool covers(VirtualCpu worse, const VirtualCpu& better) {
    for (unsigned processor = 0; processor < cpu_count; ++processor) {
        if (!covers(worse.guest_physical[processor], better.guest_physical[processor])) return false;
    }
    worse.guest_physical = better.guest_physical;
    return compare_bytes(worse, better) == 0;
}
bool covers(const State& worse, const State& better) {
    return covers(static_cast<const VirtualCpu&>(worse), static_cast<const VirtualCpu&>(better)) &&
           covers(worse.entries, better.entries);
}
bool covers(const PairState& worse, const PairState& better) {
    for (unsigned cpu = 0; cpu < l1_cpu_count; ++cpu) {
        if (!covers(worse.cpus[cpu], better.cpus[cpu])) return false;
    }
    return covers(worse.entries, better.entries) &&
           covers(worse.ept01_fresh, worse.ept01_dead, better.ept01_fresh) &&
           covers(worse.ept01_dead, worse.ept01_dead, better.ept01_dead) &&
           worse.tags_used == better.tags_used && worse.places == better.places &&
           worse.memory == better.memory;
}

/// Programs at random, of a defective L0 too: whatever breaks has broken in the worst case, which covers it
/// until then.
template <typename StateOf, typename StepperOf, typename ActionsOf>
void expect_covered(const Alphabet& alphabet, SeededDefect defect, ActionsOf&& actions_of) {
    StepperOf stepper{alphabet, defect};
    std::uint32_t random = 2026;
    unsigned widened = 0;
    for (unsigned run = 0; run < 200; ++run) {
        StateOf exact = stepper.initial();
        StateOf worst = exact;
        for (unsigned step = 0; step < 60; ++step) {
            const std::vector<Action>& actions = actions_of(exact);
            random = random * 1664525 + 1013904223;
            const Action& action = actions[(random >> 16) % actions.size()];
            if (!stepper.can_take(exact, action)) continue;
            const bool worst_broken = stepper.take(worst, action).has_value();
            const bool broken = stepper.take(exact, action).has_value();
            ASSERT_TRUE(worst_broken || !broken) << name_of(defect) << ": " << describe(action);
            ASSERT_TRUE(defect != SeededDefect::none || !worst_broken) << describe(action);
            if (worst_broken) break;
            assume_the_worst(worst);
            ASSERT_TRUE(covers(worst, exact)) << name_of(defect) << ": " << describe(action);
            if (!covers(exact, worst)) ++widened;
        }
    }
    EXPECT_GT(widened, 100U) << "it was no other state";
}

class Worst : public testing::TestWithParam<int> {
protected:
    [[nodiscard]] static SeededDefect defect() { return static_cast<SeededDefect>(GetParam()); }
};

TEST_P(Worst, CoversWhatThereIsWithOneCpu) {
    if (needs_two_cpus(defect()) || needs_two_vms(defect())) return;
    for (const unsigned tags : {1U, 2U, 3U}) {
        const Alphabet alphabet{.tags = tags};
        const Actions actions{alphabet};
        expect_covered<State, Stepper>(alphabet, defect(),
                                       [&](const State& state) -> const std::vector<Action>& {
                                           return is_l2(state.running()) ? actions.of_l2 : actions.of_l1;
                                       });
    }
}

TEST_P(Worst, CoversWhatThereIsWithTwo) {
    for (const unsigned vmcss : {1U, 2U}) {
        const Alphabet alphabet{.tags = 4, .l1_cpus = 2, .vmcss = vmcss};
        const std::vector<Action> actions = actions_of_two(alphabet);
        expect_covered<PairState, PairStepper>(
            alphabet, defect(), [&](const PairState&) -> const std::vector<Action>& { return actions; });
    }
}

TEST_P(Worst, CoversWhatThereIsWithTwoVms) {
    if (needs_two_cpus(defect())) return;
    for (const unsigned cpus : {1U, 2U}) {
        const Alphabet alphabet{.tags = 4, .cpus = cpus, .vms = 2};
        const std::vector<Action> actions = actions_of_two(alphabet);
        expect_covered<PairState, PairStepper>(
            alphabet, defect(), [&](const PairState&) -> const std::vector<Action>& { return actions; });
    }
}

/// No defect is hidden, and none shows later.
TEST_P(Worst, EveryDefectIsFound) {
    if (defect() == SeededDefect::none) return;
    Options options{.defect = defect(), .depth = 9};
    if (needs_two_cpus(defect())) {
        options.alphabet = {.vpids = 1, .tags = 4, .pages = 1, .pcids = 1, .eptps = 1, .l1_cpus = 2};
        options.depth = 12;
    }
    if (needs_two_vms(defect())) options.alphabet = {.tags = 3, .pages = 1, .pcids = 1, .eptps = 1, .vms = 2};
    options.worst = true;
    const Result result = explore(options);
    EXPECT_TRUE(result.broken) << name_of(defect());
    const std::vector<std::string> account = tell(options, result.program);
    ASSERT_FALSE(account.empty());
    EXPECT_NE(account.back().find("ithout --worst"), std::string::npos) << account.back();
}

INSTANTIATE_TEST_SUITE_P(Each, Worst, testing::Range(0, static_cast<int>(SeededDefect::count)));

/// Two CPUs that exchange their processors, and programs of any length.
TEST(WorstOfTwo, ClosesWhereProcessorsAreExchanged) {
    const Options options{
        .alphabet = {.vpids = 1, .tags = 2, .pages = 1, .pcids = 1, .eptps = 1, .l1_cpus = 2, .vmcss = 2},
        .depth = 100,
        .worst = true};
    const Result result = explore(options);
    EXPECT_TRUE(result.closed);
    EXPECT_FALSE(result.broken);
    EXPECT_LT(result.depth, options.depth);
}

}  // namespace
}  // namespace flatback::machine::explore::worst_test
