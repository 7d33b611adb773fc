// Each defect of L0 is shown by a shortest program, which a correct L0 passes.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "judge/explore/account.hpp"
#include "judge/explore/search.hpp"
#include "judge/explore/seeded_defect.hpp"

namespace flatback::machine::explore {
namespace {

using Kind = Action::Kind;

constexpr unsigned deep_enough = 9;

class SeededDefects : public testing::TestWithParam<int> {
protected:
    [[nodiscard]] static SeededDefect defect() { return static_cast<SeededDefect>(GetParam()); }
};

TEST_P(SeededDefects, AreShownByAShortestProgram) {
    const Options options{.defect = defect(), .depth = deep_enough};
    const Result result = explore(options);
    ASSERT_TRUE(result.broken) << name_of(defect());
    ASSERT_EQ(result.program.size(), result.depth);

    if (result.depth > 1) {
        const Result shorter = explore({.defect = defect(), .depth = result.depth - 1});
        EXPECT_FALSE(shorter.broken) << "there is a shorter one";
    }
    Stepper correct{Alphabet{}};
    State state = correct.initial();
    for (const Action& action : result.program) {
        ASSERT_TRUE(correct.can_take(state, action)) << describe(action);
        EXPECT_FALSE(correct.take(state, action)) << describe(action);
    }
}

TEST_P(SeededDefects, AreToldWithTheEntryAndTheStepAtWhichItShouldHaveGone) {
    const Options options{.defect = defect(), .depth = deep_enough};
    const Result result = explore(options);
    const std::vector<std::string> account = tell(options, result.program);
    ASSERT_GE(account.size(), result.program.size() + 2);
    const std::string& entry = account[result.program.size()];
    EXPECT_NE(entry.find(" at step " + std::to_string(result.program.size())), std::string::npos) << entry;
    EXPECT_NE(entry.find("made at "), std::string::npos) << entry;
    EXPECT_EQ(account[result.program.size() + 1].rfind("It should have gone ", 0), 0U)
        << account[result.program.size() + 1];
}

INSTANTIATE_TEST_SUITE_P(Each, SeededDefects, testing::Range(1, static_cast<int>(SeededDefect::count)));

std::vector<Kind> kinds_of(SeededDefect defect) {
    std::vector<Kind> kinds;
    for (const Action& action : explore({.defect = defect, .depth = deep_enough}).program) {
        kinds.push_back(action.kind);
    }
    return kinds;
}

// What the shortest programs have to be, by the rules alone.
TEST(ShortestPrograms, AnEvictedTagIsTheNextOwnersAfterOneAccess) {
    EXPECT_EQ(kinds_of(SeededDefect::evicted_tag_not_flushed),
              (std::vector{Kind::enter, Kind::access, Kind::exit, Kind::enter}));
}

TEST(ShortestPrograms, AnInvvpidThatIsIgnoredShowsAfterAnEditOnly) {
    const std::vector<Kind> kinds = kinds_of(SeededDefect::ignores_type_1);
    ASSERT_EQ(kinds.size(), 7U);
    EXPECT_EQ(kinds.back(), Kind::access);
    EXPECT_NE(std::ranges::find(kinds, Kind::invvpid_single), kinds.end());
    EXPECT_NE(std::ranges::find(kinds, Kind::edit_page), kinds.end());
}

TEST(ShortestPrograms, AnInveptAfterAMoveShowsWhenTheVirtualCpuIsBack) {
    const std::vector<Kind> kinds = kinds_of(SeededDefect::invept_elsewhere_forgotten);
    EXPECT_EQ(std::ranges::count(kinds, Kind::move), 2);
    EXPECT_EQ(kinds.size(), 9U);
}

TEST(ShortestPrograms, AMemoryOfOneVpidOverVmxoffNeedsATagThatWasAnothers) {
    const std::vector<Kind> kinds = kinds_of(SeededDefect::one_vpid12_over_vmxoff);
    EXPECT_NE(std::ranges::find(kinds, Kind::vmxoff_vmxon), kinds.end());
    EXPECT_NE(std::ranges::find(kinds, Kind::other_vm_comes), kinds.end());
}

TEST(SeededDefectNames, AreFoundAgain) {
    for (int number = 0; number < static_cast<int>(SeededDefect::count); ++number) {
        const auto defect = static_cast<SeededDefect>(number);
        EXPECT_EQ(find_defect(name_of(defect)), defect);
    }
    EXPECT_EQ(find_defect("none such"), std::nullopt);
}

}  // namespace
}  // namespace flatback::machine::explore
