// States that are taken for the same have the same future.
#include "tests/explore/merging.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "judge/explore/manager.hpp"
#include "judge/explore/stepper.hpp"
#include "judge/explore/translations.hpp"

namespace flatback::machine::explore::merging_test {
namespace {

class Merging : public MergingTest<State, Stepper> {
protected:
    Merging() : MergingTest{{.tags = 3}, {.runs = 60, .steps = 40}} {}

    [[nodiscard]] const std::vector<Action>& actions_of(const State& state) const override {
        return is_l2(state.running()) ? actions_.of_l2 : actions_.of_l1;
    }

private:
    Actions actions_{alphabet_};
};

TEST_P(Merging, AStateAndItsRepresentativeHaveTheSameFuture) {
    expect_the_same_future();
}

TEST_P(Merging, ARepresentativeRepresentsItself) {
    expect_representatives_of_themselves();
}

/// The manager that is put into a state goes on as the one that came there by itself.
TEST_P(Merging, AManagerPutIntoAStateIsReadBackTheSame) {
    LoadedManager manager{alphabet_};
    walk_at_random([&](const State& state) {
        State again = state;
        manager.load(state);
        manager.store(again);
        ASSERT_TRUE(again == state);
    });
}

INSTANTIATE_TEST_SUITE_P(OfL0s, Merging,
                         testing::Values(SeededDefect::none, SeededDefect::drops_invvpid,
                                         SeededDefect::drops_invept, SeededDefect::one_vpid12_over_vmxoff));

}  // namespace
}  // namespace flatback::machine::explore::merging_test
