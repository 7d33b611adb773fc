// INIT and start-up IPIs under the engine: where they come, no bare processor could tell
// (judge/ledger/init_cases.cpp).
#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <vector>

#include "judge/ledger/ledger.hpp"
#include "judge/mutants/init_defects.hpp"
#include "judge/trial/nested_world.hpp"
#include "judge/trial/trial.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"
#include "tests/trial/judged_cases.hpp"

namespace flatback::machine::init_test {
namespace {

using Interrupts = NestedWorld::Options::Interrupts;

TEST(Inits, AreWhereABareProcessorCouldHaveThem) {
    test::expect_as_on_a_bare_processor(init_cases(), 100U);
}

// What the cases are worth: INITs that reset an L1 and that end an L2, from the processor and from L0, and
// start-up IPIs for each.
TEST(Inits, ReachTheirGuests) {
    for (const bool given_by_l0 : {false, true}) {
        std::size_t resets = 0;
        std::size_t exits = 0;
        std::size_t starts = 0;
        std::size_t ends_of_waits = 0;
        for (const LedgerCase& each : init_cases()) {
            if (each.options.random_host != 0) continue;
            if ((each.options.interrupts != Interrupts::are_l1s) != given_by_l0) continue;
            NestedWorld world(each.options);
            Runner runner(world);
            for (const Step& step : each.program.steps) {
                const bool was_in_l2 =
                    step.vcpu < world.vcpu_count(step.vm) && world.running(step.vm, step.vcpu) == Actor::l2;
                runner.step(step);
                for (const OutsideEvent& event : world.events()) {
                    const bool init = event.kind == OutsideEvent::Kind::init;
                    if (!init && event.kind != OutsideEvent::Kind::start_up) continue;
                    const bool enters = step.kind == StepKind::vmlaunch || step.kind == StepKind::vmresume;
                    const bool of_l2 = was_in_l2 || enters;
                    ++(init ? of_l2 ? exits : resets : of_l2 ? ends_of_waits : starts);
                }
            }
        }
        EXPECT_GE(resets, 20U) << given_by_l0;
        EXPECT_GE(exits, 10U) << given_by_l0;
        EXPECT_GE(starts, 20U) << given_by_l0;
        EXPECT_GE(ends_of_waits, 3U) << given_by_l0;
    }
}

NestedWorld::Options under(Defect& defect) {
    NestedWorld::Options options;
    options.interrupts = Interrupts::l0_knows_the_vector;
    options.defect = &defect;
    return options;
}

TEST(Inits, OneThatIsNotGivenIsADifference) {
    defects::InitDefect nothing({});
    defects::InitDefect forgets({.keeps = false});
    Scenario say;
    say.l1().nop().l0().init().l1().nop();
    EXPECT_FALSE(compare(say.program(), under(nothing)).has_value());
    const auto difference = compare(say.program(), under(forgets));
    ASSERT_TRUE(difference.has_value());
    EXPECT_EQ(difference->step, 1U) << difference->text;
}

// SDM 3C 24.8.
TEST(Inits, OneThatResetsAnL1InVmxOperationIsADifference) {
    defects::InitDefect asks_nobody({.asks_the_engine = false});
    Scenario say;
    say.l1().vmxon().l0().init().l1().nop();
    const auto difference = compare(say.program(), under(asks_nobody));
    ASSERT_TRUE(difference.has_value());
    EXPECT_EQ(difference->step, 1U) << difference->text;
}

TEST(Inits, AStartUpIpiThatIsLostWhereOneWaitsIsADifference) {
    defects::InitDefect loses({.starts_who_waits = false});
    Scenario say;
    say.l0().init().start_up(0x10).l1().nop();
    const auto difference = compare(say.program(), under(loses));
    ASSERT_TRUE(difference.has_value());
    EXPECT_EQ(difference->step, 1U) << difference->text;
}

// What no bare machine could tell: the machine knows where VMCSs are active.
TEST(Inits, OneThatLeavesAVmcsActiveIsADifference) {
    defects::InitDefect keeps({.resets_engine = false});
    Scenario say;
    say.edit().map(1, 0x4000'0000, layout::data_page(0)).l1().vmxon();
    say.prepare(layout::vmcs_region(0), {.vpid = 1}).vmlaunch().l2().vmcall().l1().vmxoff().l0().init();
    const auto difference = compare(say.program(), under(keeps));
    ASSERT_TRUE(difference.has_value());
    EXPECT_NE(difference->text.find("leaves a VMCS"), std::string::npos) << difference->text;
}

}  // namespace
}  // namespace flatback::machine::init_test
