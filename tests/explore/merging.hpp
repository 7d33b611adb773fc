// What comes of a state, and states at random: for tests that states which are taken for the same are.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "judge/explore/alphabet.hpp"
#include "judge/explore/pair.hpp"
#include "judge/explore/pair_stepper.hpp"
#include "judge/explore/seeded_defect.hpp"

namespace flatback::machine::explore {

struct Future {
    std::multiset<std::string> next;
    std::size_t broken = 0;
    bool operator==(const Future&) const = default;
};

struct Walks {
    unsigned runs;
    unsigned steps;  // of each, taken or not
};

/// Of one virtual CPU's State or of a PairState, under a defect.
template <typename StateOf, typename StepperOf>
class MergingTest : public testing::TestWithParam<SeededDefect> {
protected:
    MergingTest(const Alphabet& alphabet, Walks walks)
        : alphabet_{alphabet}, stepper_{alphabet_, GetParam()}, walks_{walks} {}

    [[nodiscard]] virtual const std::vector<Action>& actions_of(const StateOf& state) const = 0;

    std::size_t below(std::size_t bound) {
        random_ = random_ * 1664525 + 1013904223;
        return (random_ >> 16) % bound;
    }
    [[nodiscard]] StateOf merged(StateOf state) const {
        forget_the_irrelevant(state);
        return canonical(state, alphabet_);
    }
    Future future(const StateOf& state) {
        Future result;
        for (const Action& action : actions_of(state)) {
            if (!stepper_.can_take(state, action)) continue;
            StateOf next = state;
            if (stepper_.take(next, action)) {
                ++result.broken;
            } else {
                const StateOf same = merged(next);
                result.next.insert({reinterpret_cast<const char*>(&same), sizeof same});
            }
        }
        return result;
    }
    template <typename Visitor>
    void walk_at_random(Visitor&& visit) {
        for (unsigned run = 0; run < walks_.runs; ++run) {
            StateOf state = stepper_.initial();
            for (unsigned step = 0; step < walks_.steps; ++step) {
                const std::vector<Action>& actions = actions_of(state);
                const Action action = actions[below(actions.size())];
                if (!stepper_.can_take(state, action)) continue;
                if (stepper_.take(state, action)) break;
                ASSERT_NO_FATAL_FAILURE(visit(state));
            }
        }
    }

    /// A state and its representative lead to the same.
    void expect_the_same_future() {
        walk_at_random([this](const StateOf& state) { ASSERT_TRUE(future(state) == future(merged(state))); });
    }
    void expect_representatives_of_themselves() {
        walk_at_random([this](const StateOf& state) {
            const StateOf once = merged(state);
            ASSERT_TRUE(merged(once) == once);
        });
    }

    Alphabet alphabet_;
    StepperOf stepper_;

private:
    Walks walks_;
    std::uint32_t random_ = 2026;
};

/// Of two virtual CPUs, whose steps are always the same ones.
class MergingOfPairs : public MergingTest<PairState, PairStepper> {
protected:
    MergingOfPairs(const Alphabet& alphabet, Walks walks) : MergingTest{alphabet, walks} {}

    [[nodiscard]] const std::vector<Action>& actions_of(const PairState&) const override { return actions_; }
    void expect_views_to_be_put_back() {
        walk_at_random([](const PairState& pair) {
            for (unsigned cpu = 0; cpu < l1_cpu_count; ++cpu) {
                PairState again = pair;
                put_back(again, cpu, view_of(pair, cpu));
                ASSERT_TRUE(again == pair);
                for (unsigned tag = 0; tag < most_tags; ++tag)
                    ASSERT_EQ(tag_of_view(pair, cpu, tag_of_pair(pair, cpu, tag)), tag);
            }
        });
    }

private:
    std::vector<Action> actions_ = actions_of_two(alphabet_);
};

/// Of the first `rows` processors, here and there: what the view of one of two has as one that is alone.
inline void expect_as_alone(const State& view, const State& alone, unsigned rows) {
    ASSERT_EQ(view.guest, alone.guest);
    ASSERT_EQ(view.bare, alone.bare);
    ASSERT_EQ(view.ept02_fresh, alone.ept02_fresh);
    ASSERT_EQ(view.manager.used, alone.manager.used);
    ASSERT_EQ(view.manager.shares, alone.manager.shares);
    for (unsigned row = 0; row < rows; ++row) {
        ASSERT_EQ(view.guest_physical[row].dead, alone.guest_physical[row].dead);
        ASSERT_EQ(view.guest_physical[row].l1_fresh, alone.guest_physical[row].l1_fresh);
        for (unsigned tag = 0; tag < 1U + view.manager.used; ++tag) {
            ASSERT_EQ(view.entries[row][tag].fresh, alone.entries[row][tag].fresh);
            ASSERT_EQ(view.entries[row][tag].old, alone.entries[row][tag].old);
            ASSERT_EQ(view.entries[row][tag].dead, alone.entries[row][tag].dead);
        }
    }
}

}  // namespace flatback::machine::explore
