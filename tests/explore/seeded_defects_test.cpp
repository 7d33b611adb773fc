// Each defect of L0 is shown by a shortest program, which a correct L0 passes.
#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "judge/explore/account.hpp"
#include "judge/explore/pair_stepper.hpp"
#include "judge/explore/search.hpp"
#include "judge/explore/seeded_defect.hpp"

namespace flatback::machine::explore::seeded_defects_test {
namespace {

using Kind = Action::Kind;

/// The whole alphabet, of one virtual CPU; or a small one of two, in which the defects of such L0s show.
Options options_of(SeededDefect defect) {
    if (needs_two_vms(defect)) {
        return {.alphabet = {.vpids = 1, .tags = 3, .pages = 1, .pcids = 1, .eptps = 1, .cpus = 1, .vms = 2},
                .defect = defect,
                .depth = 9};
    }
    if (!needs_two_cpus(defect)) return {.defect = defect, .depth = 9};
    return {.alphabet = {.vpids = 1, .tags = 4, .pages = 1, .pcids = 1, .eptps = 1, .cpus = 1, .l1_cpus = 2},
            .defect = defect,
            .depth = 12};
}

template <typename S>
void expect_to_pass(S correct, std::span<const Action> program) {
    auto state = correct.initial();
    for (const Action& action : program) {
        ASSERT_TRUE(correct.can_take(state, action)) << describe(action);
        EXPECT_FALSE(correct.take(state, action)) << describe(action);
    }
}

class SeededDefects : public testing::TestWithParam<int> {
protected:
    [[nodiscard]] static SeededDefect defect() { return static_cast<SeededDefect>(GetParam()); }
};

TEST_P(SeededDefects, AreShownByAShortestProgram) {
    const Options options = options_of(defect());
    const Result result = explore(options);
    ASSERT_TRUE(result.broken) << name_of(defect());
    ASSERT_EQ(result.program.size(), result.depth);

    if (result.depth > 1) {
        Options less = options;
        less.depth = result.depth - 1;
        EXPECT_FALSE(explore(less).broken) << "there is a shorter one";
    }
    if (options.alphabet.virtual_cpus() > 1) {
        expect_to_pass(PairStepper{options.alphabet}, result.program);
    } else {
        expect_to_pass(Stepper{options.alphabet}, result.program);
    }
}

TEST_P(SeededDefects, AreToldWithTheEntryAndTheStepAtWhichItShouldHaveGone) {
    const Options options = options_of(defect());
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

std::vector<Kind> kinds_of(const Options& options) {
    std::vector<Kind> kinds;
    for (const Action& action : explore(options).program) kinds.push_back(action.kind);
    return kinds;
}
std::vector<Kind> kinds_of(SeededDefect defect) {
    return kinds_of(options_of(defect));
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

// A page that was taken is used by who was not called out of its guest: L1, at once.
TEST(ShortestPrograms, ACallThatIsLostShowsWhereThePageWasInUse) {
    for (const SeededDefect defect :
         {SeededDefect::call_lost, SeededDefect::call_answered_late, SeededDefect::call_not_made}) {
        EXPECT_EQ(kinds_of(defect), (std::vector{Kind::take_page})) << name_of(defect);
    }
}

// L2 is on the one, goes to the other and comes back; meanwhile memory is edited, and L1 flushes on the one.
TEST(ShortestPrograms, AFlushOfAnotherProcessorsShowsWhenTheL2IsBack) {
    for (const SeededDefect defect :
         {SeededDefect::one_mark_for_both_cpus, SeededDefect::invvpid_after_a_move_forgotten}) {
        const std::vector<Kind> kinds = kinds_of(defect);
        EXPECT_EQ(std::ranges::count(kinds, Kind::enter), 3) << name_of(defect);
        EXPECT_EQ(std::ranges::count(kinds, Kind::vmclear), 2) << name_of(defect);
        EXPECT_EQ(kinds.back(), Kind::access) << name_of(defect);
    }
}

// Where it comes to, something is under the tag already: of L1 itself, for an L2 without VPID.
TEST(ShortestPrograms, AnArrivalWithoutAFlushShowsAtOnce) {
    EXPECT_EQ(kinds_of(SeededDefect::arrival_not_flushed),
              (std::vector{Kind::enter, Kind::exit, Kind::vmclear, Kind::enter}));
}

// A page of a VM that waits is taken: L1 meets it in its turn, which has to be another's first.
TEST(ShortestPrograms, ATurnWithoutFlushesShowsWhereAPageWasTakenMeanwhile) {
    EXPECT_EQ(kinds_of(SeededDefect::turn_without_flushes), (std::vector{Kind::take_page, Kind::turn}));
}

// With one virtual CPU that has to move, with two it need not.
TEST(ShortestPrograms, AFlushOnProcessor0ShowsWithoutAMoveWhereThereAreTwo) {
    for (const SeededDefect defect :
         {SeededDefect::invvpid_on_processor_0, SeededDefect::invept_on_processor_0}) {
        Options options{.defect = defect, .depth = 8};
        EXPECT_GT(std::ranges::count(kinds_of(options), Kind::move), 0) << name_of(defect);
        options.alphabet = {.vpids = 1, .tags = 4, .pages = 1, .pcids = 1, .eptps = 1, .l1_cpus = 2};
        const std::vector<Kind> kinds = kinds_of(options);
        ASSERT_FALSE(kinds.empty()) << name_of(defect);
        EXPECT_EQ(std::ranges::find(kinds, Kind::exchange), kinds.end()) << name_of(defect);
    }
}

TEST(SeededDefectNames, AreFoundAgain) {
    for (int number = 0; number < static_cast<int>(SeededDefect::count); ++number) {
        const auto defect = static_cast<SeededDefect>(number);
        EXPECT_EQ(find_defect(name_of(defect)), defect);
    }
    EXPECT_EQ(find_defect("none such"), std::nullopt);
}

}  // namespace
}  // namespace flatback::machine::explore::seeded_defects_test
