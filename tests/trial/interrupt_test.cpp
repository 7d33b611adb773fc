// External interrupts under the engine: where they come, no bare processor could tell
// (judge/ledger/interrupt_cases.cpp).
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "judge/ledger/ledger.hpp"
#include "judge/mutants/interrupt_defects.hpp"
#include "judge/mutants/nmi_defects.hpp"
#include "judge/trial/nested_world.hpp"
#include "judge/trial/trial.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"
#include "tests/trial/judged_cases.hpp"

namespace flatback::machine::interrupt_test {
namespace {

using Interrupts = NestedWorld::Options::Interrupts;

TEST(Interrupts, AreWhereABareProcessorCouldHaveThem) {
    test::expect_as_on_a_bare_processor(interrupt_cases(), 100U);
}

// What the cases are worth: interrupts that reach L1 and L2, early and late, and as exits, with their vector
// and without, from L0 and past it.
TEST(Interrupts, ReachTheirGuests) {
    for (const Interrupts interrupts :
         {Interrupts::are_l1s, Interrupts::l0_acknowledges_as_they_go_in, Interrupts::l0_knows_the_vector}) {
        std::size_t reached = 0;
        std::size_t early = 0;
        std::size_t delivered = 0;
        std::size_t exits = 0;
        std::size_t acknowledged = 0;
        for (const LedgerCase& each : interrupt_cases()) {
            if (each.options.interrupts != interrupts) continue;
            NestedWorld world(each.options);
            Runner runner(world);
            for (const Step& step : each.program.steps) {
                const Observation seen = runner.step(step);
                for (const OutsideEvent& event : world.events()) {
                    if (event.kind != OutsideEvent::Kind::interrupt) continue;
                    ++reached;
                    early += event.early ? 1U : 0U;
                }
                delivered += seen.interrupt ? 1U : 0U;
                const bool exit = seen.status == Observation::Status::exit && seen.exit.reason == 1;
                exits += exit ? 1U : 0U;
                acknowledged += exit && (seen.exit.interruption_information >> 31) != 0 ? 1U : 0U;
            }
        }
        EXPECT_GE(reached, 100U);
        EXPECT_GE(delivered, 50U);
        EXPECT_GE(exits, 10U);
        EXPECT_GE(acknowledged, 3U);
        EXPECT_GE(exits, acknowledged + 3);
        EXPECT_GE(early, interrupts == Interrupts::are_l1s ? 3U : 20U);
    }
}

NestedWorld::Options given_by_l0(Defect& defect) {
    NestedWorld::Options options;
    options.interrupts = Interrupts::l0_knows_the_vector;
    options.defect = &defect;
    return options;
}

TEST(Interrupts, OneThatNobodySentIsADifference) {
    using Vector = defects::OffersAnother::Vector;
    defects::OffersAnother made_up([](Vector) { return Vector{0x40}; });
    Scenario say;
    say.l1().vmxon().sti().nop().cpuid();
    const auto difference = compare(say.program(), given_by_l0(made_up));
    ASSERT_TRUE(difference.has_value());
    EXPECT_NE(difference->text.find("could not take"), std::string::npos) << difference->text;
}

TEST(Interrupts, OneThatIsNotGivenIsADifference) {
    using Vector = defects::OffersAnother::Vector;
    defects::OffersAnother nothing([](Vector it) { return it; });
    defects::OffersAnother forgets([](Vector) { return Vector{}; });
    Scenario say;
    say.l1().vmxon().sti().nop().l0().interrupt(0x31).l1().nop();
    EXPECT_FALSE(compare(say.program(), given_by_l0(nothing)).has_value());
    const auto difference = compare(say.program(), given_by_l0(forgets));
    ASSERT_TRUE(difference.has_value());
    EXPECT_EQ(difference->step, 3U);
    EXPECT_NE(difference->text.find("withholds"), std::string::npos) << difference->text;
}

// It waits for IF, and L0 has asked for no exit by which it would learn of that.
TEST(Interrupts, AWindowThatIsNotOpenedIsADifference) {
    defects::FieldDefect no_window(vmx::field::primary_processor_based_vm_execution_controls,
                                   [](std::uint64_t it) { return it & ~std::uint64_t{4}; });
    Scenario say;
    say.l1().vmxon().l0().interrupt(0x31).l1().sti().nop().nop();
    const auto difference = compare(say.program(), given_by_l0(no_window));
    ASSERT_TRUE(difference.has_value());
    EXPECT_EQ(difference->step, 3U) << difference->text;
}

TEST(Interrupts, OneThatComesBeforeAnNmiIsADifference) {
    defects::InterruptDefect inverted({.nmis_first = false});
    Scenario say;
    say.l1().vmxon().sti().nop().l0().nmi_at_next_exit().interrupt_at_next_exit(0x31).l1().cpuid();
    const auto difference = compare(say.program(), given_by_l0(inverted));
    ASSERT_TRUE(difference.has_value());
    EXPECT_EQ(difference->step, 5U) << difference->text;
}

}  // namespace
}  // namespace flatback::machine::interrupt_test
