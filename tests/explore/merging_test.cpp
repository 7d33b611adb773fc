// States that are taken for the same have the same future.
#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "judge/explore/manager.hpp"
#include "judge/explore/stepper.hpp"
#include "judge/explore/translations.hpp"

namespace flatback::machine::explore::merging_test {
namespace {

std::string bytes_of(const State& state) {
    return {reinterpret_cast<const char*>(&state), sizeof state};
}

struct Future {
    std::multiset<std::string> next;
    std::size_t broken = 0;
    bool operator==(const Future&) const = default;
};

class Merging : public testing::TestWithParam<SeededDefect> {
protected:
    Alphabet alphabet_{.tags = 3};
    Actions actions_{alphabet_};
    Stepper stepper_{alphabet_, GetParam()};
    std::uint32_t random_ = 2026;

    std::size_t below(std::size_t bound) {
        random_ = random_ * 1664525 + 1013904223;
        return (random_ >> 16) % bound;
    }
    [[nodiscard]] const std::vector<Action>& actions_of(const State& state) const {
        return is_l2(state.running()) ? actions_.of_l2 : actions_.of_l1;
    }
    [[nodiscard]] State merged(State state) const {
        forget_the_irrelevant(state);
        return canonical(state, alphabet_);
    }
    Future future(const State& state) {
        Future result;
        for (const Action& action : actions_of(state)) {
            if (!stepper_.can_take(state, action)) continue;
            State next = state;
            if (stepper_.take(next, action)) {
                ++result.broken;
            } else {
                result.next.insert(bytes_of(merged(next)));
            }
        }
        return result;
    }
    template <typename Visitor>
    void walk_at_random(Visitor&& visit) {
        for (unsigned run = 0; run < 60; ++run) {
            State state = stepper_.initial();
            for (unsigned step = 0; step < 40; ++step) {
                const std::vector<Action>& actions = actions_of(state);
                const Action action = actions[below(actions.size())];
                if (!stepper_.can_take(state, action)) continue;
                if (stepper_.take(state, action)) break;
                ASSERT_NO_FATAL_FAILURE(visit(state));
            }
        }
    }
};

TEST_P(Merging, AStateAndItsRepresentativeHaveTheSameFuture) {
    walk_at_random([this](const State& state) { ASSERT_TRUE(future(state) == future(merged(state))); });
}

TEST_P(Merging, ARepresentativeRepresentsItself) {
    walk_at_random([this](const State& state) {
        const State once = merged(state);
        ASSERT_TRUE(merged(once) == once);
    });
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
