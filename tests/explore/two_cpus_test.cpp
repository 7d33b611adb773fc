// An L1 with two virtual CPUs: what is of one and what is of both, and that every schedule holds.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "judge/explore/pair.hpp"
#include "judge/explore/pair_stepper.hpp"
#include "judge/explore/search.hpp"
#include "judge/explore/stepper.hpp"
#include "tests/explore/expect_holds.hpp"
#include "tests/explore/merging.hpp"

namespace flatback::machine::explore::two_cpus_test {
namespace {

using Kind = Action::Kind;

Alphabet of_two(Alphabet alphabet) {
    alphabet.l1_cpus = 2;
    return alphabet;
}

TEST(TwoCpus, HoldForTheWholeAlphabet) {
    expect_holds({.alphabet = of_two({.tags = 4}), .depth = 4});
}

TEST(TwoCpus, HoldWithAnyNumberOfTagsAndVmcss) {
    for (const unsigned tags : {2U, 3U, 6U}) {
        for (const unsigned vmcss : {1U, 2U}) {
            expect_holds(
                {.alphabet = of_two({.tags = tags, .pages = 1, .pcids = 1, .eptps = 1, .vmcss = vmcss}),
                 .depth = 6});
        }
    }
}

TEST(TwoCpus, HoldUnderEachPolicy) {
    for (const tag::Policy policy : {tag::Policy::single, tag::Policy::off}) {
        expect_holds({.alphabet = of_two({.tags = 4, .pages = 1, .pcids = 1, .policy = policy}), .depth = 5});
    }
}

/// A step of either, or of nobody, in a state that is made by hand.
struct Pair : testing::Test {
    Alphabet alphabet = of_two({.tags = 6, .vmcss = 2});
    PairStepper stepper{alphabet};
    PairState pair = stepper.initial();

    void take(unsigned cpu, Action action) {
        action.l1_cpu = static_cast<std::uint8_t>(cpu);
        ASSERT_TRUE(stepper.can_take(pair, action)) << describe(action);
        ASSERT_FALSE(stepper.take(pair, action)) << describe(action);
    }
    void edit(Action action) { ASSERT_FALSE(stepper.take(pair, action)) << describe(action); }
    /// Both run the L2 with vpid12 1, and have cached page 0.
    void both_have_page_0() {
        for (const unsigned cpu : {0U, 1U}) {
            take(cpu, {.kind = Kind::enter, .guest = Guest::vpid_1});
            take(cpu, {.kind = Kind::access});
        }
    }
    /// What a virtual CPU has under the tag of the L2 with vpid12 1, where it is.
    [[nodiscard]] Entries entries_of(unsigned cpu) const {
        const State view = view_of(pair, cpu);
        return view.entries[here][tag_of(view, Guest::vpid_1)];
    }
};

constexpr Keys page_0 = 0x01;

TEST_F(Pair, EachBeginsWithATagOfItsOwn) {
    EXPECT_EQ(pair.entries[0][0].guest(), Guest::l1);
    EXPECT_EQ(view_of(pair, 1).entries[here][0].guest(), Guest::l1);
    EXPECT_EQ(view_of(pair, 0).entries[1][1].guest(), static_cast<Guest>(0x8 | 4))
        << "L1's, of the other one";
    both_have_page_0();
    EXPECT_EQ(pair.tags_used, 4U);
}

TEST_F(Pair, WhatOneCachesTheOtherHasNot) {
    take(0, {.kind = Kind::enter, .guest = Guest::vpid_1});
    take(0, {.kind = Kind::access});
    take(1, {.kind = Kind::enter, .guest = Guest::vpid_1});
    EXPECT_EQ(entries_of(0).fresh, page_0);
    EXPECT_EQ(entries_of(1).present(), 0U);
    EXPECT_EQ(pair.cpus[0].bare[0], page_0);
    EXPECT_EQ(pair.cpus[1].bare[0], 0U);
}

// SDM 3C 29.4.3: INVVPID and INVEPT act on the logical processor that executes them.
TEST_F(Pair, InvvpidOfOneLeavesWhatTheOtherMayHave) {
    both_have_page_0();
    edit({.kind = Kind::edit_page});
    take(0, {.kind = Kind::exit});
    take(0, {.kind = Kind::invvpid_single, .guest = Guest::vpid_1});
    EXPECT_EQ(entries_of(0).dead, page_0);
    EXPECT_EQ(entries_of(1).old, page_0) << "a bare processor may use it until L1 flushes there, too";
    take(1, {.kind = Kind::access});
}

TEST_F(Pair, InveptOfOneLeavesWhatTheOtherMayHave) {
    both_have_page_0();
    take(0, {.kind = Kind::exit});
    take(0, {.kind = Kind::edit_ept});
    take(0, {.kind = Kind::invept_single});
    EXPECT_EQ(entries_of(0).present(), 0U);
    EXPECT_EQ(entries_of(1).old_ept, page_0);
    take(1, {.kind = Kind::access});
    take(1, {.kind = Kind::exit});
    take(1, {.kind = Kind::invept_single});
    EXPECT_EQ(entries_of(1).present(), 0U);
}

TEST_F(Pair, AnEditIsSeenByBoth) {
    both_have_page_0();
    edit({.kind = Kind::edit_page});
    EXPECT_EQ(entries_of(0).old, page_0);
    EXPECT_EQ(entries_of(1).old, page_0);
}

TEST_F(Pair, ATakenPageIsGoneForBothBeforeTheyGoOn) {
    both_have_page_0();
    take(0, {.kind = Kind::take_page});
    EXPECT_EQ(entries_of(0).present(), 0U);
    EXPECT_EQ(entries_of(1).present(), 0U);
}

/// One pool for both: the third of three tags is of who asks first, until it is given back.
TEST_F(Pair, TheTagOfOneThatLeavesVmxOperationIsTheOthers) {
    alphabet.tags = 3;
    PairStepper of_three{alphabet};
    const auto step = [&](std::uint8_t cpu, Kind kind) {
        const bool enters = kind == Kind::enter;
        ASSERT_FALSE(of_three.take(
            pair, {.kind = kind, .guest = enters ? Guest::vpid_1 : Guest::none, .l1_cpu = cpu}));
    };
    step(0, Kind::enter);
    step(1, Kind::enter);
    EXPECT_EQ(pair.cpus[0].manager.used, 1U);
    EXPECT_EQ(pair.cpus[1].manager.used, 0U);
    EXPECT_EQ(pair.cpus[1].manager.shares, 1U);
    step(0, Kind::exit);
    step(0, Kind::vmxoff_vmxon);
    step(1, Kind::exit);
    step(1, Kind::enter);
    EXPECT_EQ(pair.cpus[0].manager.used, 0U);
    EXPECT_EQ(pair.cpus[1].manager.used, 1U);
    EXPECT_EQ(pair.tags_used, 3U);
}

TEST(TwoCpusOneVmcs, IsActiveOnOneOfThemOnly) {
    PairStepper stepper{of_two({})};
    PairState pair = stepper.initial();
    const auto of = [](std::uint8_t cpu, Kind kind) {
        return Action{.kind = kind, .guest = Guest::vpid_1, .l1_cpu = cpu};
    };
    EXPECT_FALSE(stepper.can_take(pair, of(0, Kind::vmclear)));
    ASSERT_FALSE(stepper.take(pair, of(0, Kind::enter)));
    EXPECT_FALSE(stepper.can_take(pair, of(1, Kind::enter))) << "it is active on the other one";
    EXPECT_FALSE(stepper.can_take(pair, of(0, Kind::vmclear))) << "its L2 runs";
    ASSERT_FALSE(stepper.take(pair, of(0, Kind::exit)));
    EXPECT_FALSE(stepper.can_take(pair, of(1, Kind::vmclear)));
    EXPECT_FALSE(stepper.can_take(pair, of(1, Kind::enter)));
    ASSERT_FALSE(stepper.take(pair, of(0, Kind::vmclear)));
    EXPECT_TRUE(stepper.can_take(pair, of(1, Kind::enter)));
    ASSERT_FALSE(stepper.take(pair, of(1, Kind::enter_fails_flush_paid)));
    EXPECT_FALSE(stepper.can_take(pair, of(0, Kind::enter)));
    ASSERT_FALSE(stepper.take(pair, of(1, Kind::vmxoff_vmxon)));
    EXPECT_TRUE(stepper.can_take(pair, of(0, Kind::enter)));
}

// --- States that are taken for the same ---

class MergingOfTwo : public MergingOfPairs {
protected:
    MergingOfTwo() : MergingOfPairs{of_two({.tags = 4}), {.runs = 40, .steps = 80}} {}
};

TEST_P(MergingOfTwo, AStateAndItsRepresentativeHaveTheSameFuture) {
    expect_the_same_future();
}

TEST_P(MergingOfTwo, ARepresentativeRepresentsItself) {
    expect_representatives_of_themselves();
}

TEST_P(MergingOfTwo, WhatIsSeenByEitherIsPutBackTheSame) {
    expect_views_to_be_put_back();
}

INSTANTIATE_TEST_SUITE_P(OfL0s, MergingOfTwo,
                         testing::Values(SeededDefect::none, SeededDefect::drops_invvpid,
                                         SeededDefect::invvpid_on_processor_0,
                                         SeededDefect::one_mark_for_both_cpus,
                                         SeededDefect::arrival_not_flushed));

/// Where the other one rests in L1, each of the two is as one that is alone, with a tag more for the other.
TEST(TwoCpus, AreEachAsOneThatIsAlone) {
    for (const unsigned cpu : {0U, 1U}) {
        for (const unsigned tags : {1U, 2U, 3U}) {
            const Alphabet alone{.tags = tags, .cpus = 1};
            const Actions actions{alone};
            Stepper one{alone};
            Alphabet of_both = of_two({.tags = tags + 1, .cpus = 1});
            PairStepper both{of_both};
            std::uint32_t random = 11;
            State state = one.initial();
            PairState pair = both.initial();
            for (unsigned step = 0; step < 3000; ++step) {
                const std::vector<Action>& possible = is_l2(state.running()) ? actions.of_l2 : actions.of_l1;
                random = random * 1664525 + 1013904223;
                Action action = possible[(random >> 16) % possible.size()];
                if (action.kind == Kind::other_vm_comes || action.kind == Kind::other_vm_goes) continue;
                ASSERT_FALSE(one.take(state, action));
                action.l1_cpu = static_cast<std::uint8_t>(cpu);
                ASSERT_FALSE(both.take(pair, action));
                SCOPED_TRACE(step);
                ASSERT_NO_FATAL_FAILURE(expect_as_alone(view_of(pair, cpu), state, 1));
            }
        }
    }
}

}  // namespace
}  // namespace flatback::machine::explore::two_cpus_test
