// The log of the random L1: what is a line of it, and where two of them differ.
#include "tools/check/random_log.hpp"

#include <gtest/gtest.h>

namespace flatback::tools::random_log_test {
namespace {

TEST(RandomLog, LinesOfTheGuestAreTakenAndOthersLeftOut) {
    const auto lines =
        parse_random_log("Bochs x86 Emulator\n3/1.20 entry reason=a\n3/x.2 no\n4/0.0  again\n4/0.1 cut");
    ASSERT_EQ(lines.size(), 2U);
    EXPECT_EQ(lines[0], (RandomLine{3, 1, 20, "entry reason=a"}));
    EXPECT_EQ(lines[1], (RandomLine{4, 0, 0, " again"}));
}

TEST(RandomLog, EqualLogsDifferInNothing) {
    const auto lines = parse_random_log("0/0.0 a\n0/0.1 b\n1/0.0 c\n");
    EXPECT_TRUE(differences(lines, lines).empty());
}

TEST(RandomLog, OnlyTheFirstDifferenceOfACaseCounts) {
    const auto one = parse_random_log("0/0.0 a\n0/0.1 b x=1\n0/0.2 c\n1/0.0 d\n2/0.3 e\n");
    const auto other = parse_random_log("0/0.0 a\n0/0.1 b x=2\n0/0.2 f\n1/0.0 d\n2/0.3 g\n");
    const auto found = differences(one, other);
    ASSERT_EQ(found.size(), 2U);
    EXPECT_EQ(found[0].case_number, 0U);
    EXPECT_EQ(found[0].step, 1U);
    EXPECT_EQ(found[0].under_l0, "b x=1");
    EXPECT_EQ(found[0].directly, "b x=2");
    EXPECT_EQ(found[1].case_number, 2U);
}

TEST(RandomLog, ACaseThatEndsSoonerDiffersInALineThatIsNotThere) {
    const auto one = parse_random_log("0/0.0 a\n1/0.0 c\n");
    const auto other = parse_random_log("0/0.0 a\n0/0.1 b\n1/0.0 c\n");
    const auto found = differences(one, other);
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].case_number, 0U);
    EXPECT_EQ(found[0].under_l0, "");
    EXPECT_EQ(found[0].directly, "b");
}

TEST(RandomLog, WhatNeverCameBecauseTheMachineStoppedIsNoDifferenceOfALine) {
    const auto one = parse_random_log("0/0.0 a\n");
    const auto other = parse_random_log("0/0.0 a\n0/0.1 b\n");
    EXPECT_TRUE(differences(one, other).empty());
}

TEST(RandomLog, TheMarkIsTheFirstNameWhoseValueDiffers) {
    RandomDifference difference;
    difference.under_l0 = "entry launch=1 reason=a rip=1";
    difference.directly = "entry launch=1 reason=b rip=2";
    EXPECT_EQ(mark_of(difference), "entry reason");
    difference.directly = "entry launch=1 VMfailValid 7";
    EXPECT_EQ(mark_of(difference), "entry reason or VMfailValid");
}

}  // namespace
}  // namespace flatback::tools::random_log_test
