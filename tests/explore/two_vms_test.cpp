// Two VMs that share processors and tags: what is of one is not the other's, and every schedule holds.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "judge/explore/pair.hpp"
#include "judge/explore/pair_stepper.hpp"
#include "judge/explore/search.hpp"
#include "judge/explore/stepper.hpp"
#include "tests/explore/expect_holds.hpp"
#include "tests/explore/merging.hpp"

namespace flatback::machine::explore::two_vms_test {
namespace {

using Kind = Action::Kind;

Alphabet of_two(Alphabet alphabet) {
    alphabet.vms = 2;
    return alphabet;
}

TEST(TwoVms, HoldForTheWholeAlphabet) {
    for (const unsigned cpus : {1U, 2U})
        expect_holds({.alphabet = of_two({.tags = 4, .cpus = cpus}), .depth = 4});
}

TEST(TwoVms, HoldWithAnyNumberOfTags) {
    for (const unsigned tags : {2U, 3U, 5U, 6U})
        expect_holds({.alphabet = of_two({.tags = tags, .pages = 1, .pcids = 1, .eptps = 1}), .depth = 6});
}

TEST(TwoVms, HoldUnderEachPolicy) {
    for (const tag::Policy policy : {tag::Policy::single, tag::Policy::off})
        expect_holds({.alphabet = of_two({.tags = 4, .pages = 1, .pcids = 1, .policy = policy}), .depth = 5});
}

TEST(TwoVms, HoldForProgramsOfAnyLengthOfASmallAlphabet) {
    const Options options{
        .alphabet = of_two({.vpids = 1, .tags = 3, .pages = 1, .pcids = 1, .eptps = 1, .cpus = 1}),
        .depth = 100};
    const Result result = explore(options);
    EXPECT_TRUE(result.closed);
    EXPECT_FALSE(result.broken);
}

/// Steps of either VM in a state that is made by hand.
struct Vms {
    Alphabet alphabet;
    PairStepper stepper{alphabet};
    PairState pair = stepper.initial();

    void take(Action action) {
        ASSERT_TRUE(stepper.can_take(pair, action)) << describe(action, "VM");
        ASSERT_FALSE(stepper.take(pair, action)) << describe(action, "VM");
    }
    void take(unsigned vm, Action action) {
        action.l1_cpu = static_cast<std::uint8_t>(vm);
        take(action);
    }
    void turn() { take({.kind = Kind::turn}); }
    /// Its L2 with vpid12 1 has cached page 0, and runs.
    void cache_page_0(unsigned vm) {
        take(vm, {.kind = Kind::enter, .guest = Guest::vpid_1});
        take(vm, {.kind = Kind::access});
    }
    /// What a VM has under the tag of its L2 with vpid12 1, where it is.
    [[nodiscard]] Entries entries_of(unsigned vm) const {
        const State view = view_of(pair, vm);
        return view.entries[here][tag_of(view, Guest::vpid_1)];
    }
};
Vms on_one_processor(unsigned tags) {
    return {of_two({.tags = tags, .cpus = 1})};
}
Vms on_two_processors(unsigned tags) {
    return {of_two({.tags = tags})};
}

constexpr Keys page_0 = 0x01;

TEST(TwoVms, TakeTurnsOnOneProcessor) {
    Vms vms = on_one_processor(6);
    const auto may_enter = [&](std::uint8_t vm) {
        return vms.stepper.can_take(vms.pair, {.kind = Kind::enter, .guest = Guest::vpid_1, .l1_cpu = vm});
    };
    EXPECT_TRUE(may_enter(0));
    EXPECT_FALSE(may_enter(1));
    vms.turn();
    EXPECT_FALSE(may_enter(0));
    EXPECT_TRUE(may_enter(1));
    EXPECT_EQ(vms.pair.entries[0][0].guest(), Guest::l1);
    EXPECT_EQ(vms.pair.entries[0][1].guest(), static_cast<Guest>(0x8 | 4)) << "the other's L1";
    EXPECT_EQ(vms.pair.entries[1][1].present(), 0U);
}

TEST(TwoVms, HaveTheSameVpidUnderTagsOfTheirOwn) {
    Vms vms = on_one_processor(6);
    vms.cache_page_0(0);
    vms.turn();
    vms.take(1, {.kind = Kind::enter, .guest = Guest::vpid_1});
    EXPECT_EQ(vms.entries_of(0).fresh, page_0);
    EXPECT_EQ(vms.entries_of(1).present(), 0U);
    EXPECT_EQ(vms.pair.tags_used, 4U);
}

TEST(TwoVms, HaveMemoryOfTheirOwn) {
    Vms vms = on_one_processor(6);
    vms.cache_page_0(0);
    vms.turn();
    vms.cache_page_0(1);
    vms.take(1, {.kind = Kind::edit_page});
    EXPECT_EQ(vms.entries_of(0).fresh, page_0);
    EXPECT_EQ(vms.entries_of(1).old, page_0);
    vms.take(1, {.kind = Kind::take_page});
    EXPECT_EQ(vms.entries_of(0).fresh, page_0);
    EXPECT_EQ(vms.entries_of(1).present(), 0U) << "dropped before it goes on";
}

TEST(TwoVms, InvvpidOfAllContextsLeavesTheOthersTags) {
    Vms vms = on_one_processor(6);
    vms.cache_page_0(0);
    vms.turn();
    vms.cache_page_0(1);
    vms.take(1, {.kind = Kind::exit});
    vms.take(1, {.kind = Kind::invvpid_all});
    vms.take(1, {.kind = Kind::enter, .guest = Guest::vpid_1});
    EXPECT_EQ(vms.entries_of(0).fresh, page_0);
    EXPECT_EQ(vms.entries_of(1).present(), 0U);
}

TEST(TwoVms, ATagThatOneGivesBackIsTheOthersWithoutWhatItHeld) {
    Vms vms = on_one_processor(3);
    vms.cache_page_0(0);
    vms.turn();
    vms.take(1, {.kind = Kind::enter, .guest = Guest::vpid_1});
    EXPECT_EQ(vms.pair.cpus[1].manager.shares, 1U) << "the pool is empty";
    vms.take(1, {.kind = Kind::exit});
    vms.turn();
    vms.take(0, {.kind = Kind::exit});
    vms.take(0, {.kind = Kind::vmxoff_vmxon});
    vms.turn();
    vms.take(1, {.kind = Kind::enter, .guest = Guest::vpid_1});
    EXPECT_EQ(vms.pair.cpus[1].manager.used, 1U);
    EXPECT_EQ(vms.pair.tags_used, 3U);
    EXPECT_EQ(vms.entries_of(1).present(), 0U);
}

TEST(TwoVms, APageOfOneThatWaitsIsGoneAtItsTurn) {
    Vms vms = on_one_processor(6);
    vms.cache_page_0(0);
    vms.turn();
    vms.take(0, {.kind = Kind::take_page});
    EXPECT_EQ(vms.entries_of(0).dead, page_0) << "nothing is flushed for who does not run";
    vms.turn();
    EXPECT_EQ(vms.entries_of(0).present(), 0U);
}

TEST(TwoVms, MoveToEachOthersProcessorAndBack) {
    for (const unsigned mover : {0U, 1U}) {
        Vms vms = on_two_processors(6);
        const unsigned other = mover ^ 1;
        vms.cache_page_0(0);
        vms.cache_page_0(1);
        EXPECT_FALSE(vms.stepper.can_take(vms.pair, {.kind = Kind::turn})) << "each has a processor";
        vms.take(mover, {.kind = Kind::move});
        EXPECT_EQ(vms.entries_of(mover).present(), 0U) << "where it was not yet";
        EXPECT_EQ(view_of(vms.pair, mover).entries[1][tag_of(view_of(vms.pair, mover), Guest::vpid_1)].fresh,
                  page_0)
            << "nothing was dropped where it was";
        EXPECT_EQ(vms.entries_of(other).fresh, page_0);
        vms.take(mover, {.kind = Kind::access});
        vms.turn();
        vms.take(other, {.kind = Kind::access});
        // The one that waits goes on where it came from: what is there may be old, and is flushed.
        vms.take(mover, {.kind = Kind::move});
        EXPECT_EQ(vms.entries_of(mover).present(), 0U);
        EXPECT_EQ(vms.entries_of(other).fresh, page_0);
        EXPECT_FALSE(share_a_processor(vms.pair));
    }
}

// --- States that are taken for the same ---

class MergingOfTwoVms : public MergingOfPairs {
protected:
    MergingOfTwoVms() : MergingOfPairs{of_two({.tags = 4}), {.runs = 30, .steps = 60}} {}
};

TEST_P(MergingOfTwoVms, AStateAndItsRepresentativeHaveTheSameFuture) {
    expect_the_same_future();
}

TEST_P(MergingOfTwoVms, ARepresentativeRepresentsItself) {
    expect_representatives_of_themselves();
}

TEST_P(MergingOfTwoVms, WhatIsSeenByEitherIsPutBackTheSame) {
    expect_views_to_be_put_back();
}

INSTANTIATE_TEST_SUITE_P(OfL0s, MergingOfTwoVms,
                         testing::Values(SeededDefect::none, SeededDefect::drops_invvpid,
                                         SeededDefect::on_processor_0, SeededDefect::invvpid_on_processor_0,
                                         SeededDefect::given_back_tag_not_flushed,
                                         SeededDefect::turn_without_flushes));

/// Where the other one rests in L1, each of the two is as one that is alone, with a tag more for the other;
/// also where the other has a turn before every step, and is wherever it is.
TEST(TwoVms, AreEachAsOneThatIsAlone) {
    for (const unsigned vm : {0U, 1U}) {
        for (const unsigned cpus : {1U, 2U}) {
            const Alphabet alone{.tags = 3, .cpus = cpus};
            const Actions actions{alone};
            Stepper one{alone};
            PairStepper both{of_two({.tags = 4, .cpus = cpus})};
            std::uint32_t random = 7;
            State state = one.initial();
            PairState pair = both.initial();
            const auto let_the_other_run = [&] {
                const Action turn{.kind = Kind::turn};
                if (!share_a_processor(pair)) return;
                if (place_of(pair.places, shared_processor) == vm + 1) {
                    ASSERT_FALSE(both.take(pair, turn));
                }
                ASSERT_FALSE(both.take(pair, turn));
                // It was entered again for that.
                ASSERT_FALSE(one.resume(state));
            };
            for (unsigned step = 0; step < 3000; ++step) {
                const std::vector<Action>& possible = is_l2(state.running()) ? actions.of_l2 : actions.of_l1;
                random = random * 1664525 + 1013904223;
                Action action = possible[(random >> 16) % possible.size()];
                if (action.kind == Kind::other_vm_comes || action.kind == Kind::other_vm_goes) continue;
                let_the_other_run();
                ASSERT_FALSE(one.take(state, action));
                action.l1_cpu = static_cast<std::uint8_t>(vm);
                ASSERT_FALSE(both.take(pair, action));
                SCOPED_TRACE(step);
                ASSERT_NO_FATAL_FAILURE(expect_as_alone(view_of(pair, vm), state, cpu_count));
            }
        }
    }
}

}  // namespace
}  // namespace flatback::machine::explore::two_vms_test
