// NMIs under the engine: where they come, no bare processor could tell (judge/ledger/nmi_cases.cpp).
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "judge/ledger/ledger.hpp"
#include "judge/mutants/nmi_defects.hpp"
#include "judge/trial/nested_world.hpp"
#include "judge/trial/trial.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"
#include "tests/trial/judged_cases.hpp"

namespace flatback::machine::nmi_test {
namespace {

TEST(Nmis, AreWhereABareProcessorCouldHaveThem) {
    test::expect_as_on_a_bare_processor(nmi_cases(), 30U);
}

// What the cases are worth: NMIs that reach L1 and L2, early and late, and as exits.
TEST(Nmis, ReachTheirGuests) {
    std::size_t delivered = 0;
    std::size_t early = 0;
    std::size_t withheld = 0;
    std::size_t exits = 0;
    for (const LedgerCase& each : nmi_cases()) {
        NestedWorld world(each.options);
        Runner runner(world);
        for (const Step& step : each.program.steps) {
            const Observation seen = runner.step(step);
            delivered += world.events().size();
            early += static_cast<std::size_t>(std::ranges::count_if(world.events(), &OutsideEvent::early));
            withheld += world.withheld_nmi() ? 1U : 0U;
            exits += seen.status == Observation::Status::exit &&
                             (seen.exit.interruption_information & 0x7FF) == 0x202
                         ? 1U
                         : 0U;
        }
    }
    EXPECT_GE(delivered, 60U);
    EXPECT_GE(early, 8U);
    EXPECT_GE(withheld, 2U);
    EXPECT_GE(exits, 6U);
}

Program with_one(Scenario& (Scenario::*how)()) {
    Scenario say;
    (say.l1().vmxon().l0().*how)().l1().cpuid().cpuid();
    return say.program();
}

TEST(Nmis, OneThatNobodySentIsADifference) {
    // L0 believes that it still has the one that it gave.
    defects::NmiDefect twice({.gave = false});
    Scenario say;
    say.l1().vmxon().l0().nmi_at_next_exit().l1().cpuid().iret(layout::scratch(7)).cpuid();
    const auto difference = compare(say.program(), {.defect = &twice});
    ASSERT_TRUE(difference.has_value());
    EXPECT_EQ(difference->step, 4U) << difference->text;
}

TEST(Nmis, OneThatIsNotGivenIsADifference) {
    defects::NmiDefect nothing({});
    EXPECT_FALSE(compare(with_one(&Scenario::nmi_at_next_exit), {.defect = &nothing}).has_value());
    EXPECT_FALSE(compare(with_one(&Scenario::nmi), {.defect = &nothing}).has_value());
    defects::FieldDefect never(vmx::field::vm_entry_interruption_information,
                               [](std::uint64_t) { return 0; });
    const auto difference = compare(with_one(&Scenario::nmi_at_next_exit), {.defect = &never});
    ASSERT_TRUE(difference.has_value());
    EXPECT_EQ(difference->step, 2U) << difference->text;
}

}  // namespace
}  // namespace flatback::machine::nmi_test
