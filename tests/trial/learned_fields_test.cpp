// Fields that L0 learns to let L1 reach without an exit: L1 sees no difference, and there are fewer exits.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>

#include "judge/mutants/field_use.hpp"
#include "judge/trial/trial.hpp"
#include "machine/program/runner.hpp"

namespace flatback::machine::learned_fields_test {
namespace {

constexpr nested::LearningRule nothing{.uses = 0};

void expect_same(const NestedWorld::Options& options) {
    if (compare(program_of_fields_in_use(), options)) {
        ADD_FAILURE() << account(program_of_fields_in_use(), options);
    }
}

TEST(LearnedFields, AreAsOnTheBareProcessor) {
    for (const std::uint8_t uses : std::array<std::uint8_t, 4>{0, 1, 2, 4}) {
        for (const std::uint32_t trial_every : {1U, 3U, 256U})
            expect_same({.learning = {.uses = uses, .within = 64, .trial_every = trial_every}});
    }
}

TEST(LearnedFields, AreSoUnderAHostThatMovesAndSaves) {
    for (std::uint64_t seed = 1; seed <= 12; ++seed)
        expect_same({.random_host = seed, .saves_states = seed % 2 == 0});
}

TEST(LearnedFields, TakeExitsAway) {
    const auto exits = [](const nested::LearningRule& rule) {
        NestedWorld world(NestedWorld::Options{.learning = rule});
        (void)Runner(world).run(program_of_fields_in_use());
        return world.counters(0, 0).vmread_exits + world.counters(0, 0).vmwrite_exits;
    };
    // The rest are of what each VMCS is filled with.
    EXPECT_LT(3 * exits({.uses = 1, .within = 1000, .trial_every = 1000}), 2 * exits(nothing));
}

}  // namespace
}  // namespace flatback::machine::learned_fields_test
