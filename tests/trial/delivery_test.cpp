// Events on their way through the IDT of L1 or L2, with L0 in the midst of it
// (judge/ledger/delivery_cases.cpp).
#include <gtest/gtest.h>

#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include "judge/ledger/ledger.hpp"
#include "judge/trial/machine_port.hpp"
#include "judge/trial/nested_world.hpp"
#include "judge/trial/trial.hpp"
#include "machine/program/runner.hpp"
#include "tests/trial/judged_cases.hpp"
#include "vmx/exit_reason.hpp"
#include "vmx/field.hpp"

namespace flatback::machine::delivery_test {
namespace {

TEST(Deliveries, AreAsOnABareProcessor) {
    test::expect_as_on_a_bare_processor(delivery_cases(), 200U);
}

// What the cases are worth: deliveries that L0 interrupts and begins again, and exits that L1 is shown in the
// midst of one, of every type of event.
TEST(Deliveries, AreInterruptedAndBegunAgain) {
    std::size_t delivered = 0;
    std::set<std::uint64_t> shown;
    std::set<std::uint64_t> reasons;
    std::uint64_t fills = 0;
    for (const LedgerCase& each : delivery_cases()) {
        if (each.options.random_host != 0) continue;
        NestedWorld world(each.options);
        Runner runner(world);
        try {
            for (const Step& step : each.program.steps) {
                const std::uint64_t before = world.counters(0, 0).exits_from_l2;
                const std::uint64_t reflected = world.counters(0, 0).exits_reflected;
                const Observation seen = runner.step(step);
                if (seen.status == Observation::Status::event && step.actor == Actor::l2) {
                    ++delivered;
                    fills += world.counters(0, 0).exits_from_l2 - before;
                    EXPECT_EQ(world.counters(0, 0).exits_reflected, reflected);
                }
                if (step.kind == StepKind::vmread &&
                    step.operands[0] == vmx::field::idt_vectoring_information.encoding &&
                    (seen.value >> 31 & 1) != 0)
                    shown.insert(seen.value >> 8 & 7);
                if (seen.status == Observation::Status::exit) reasons.insert(seen.exit.reason);
            }
        } catch (const L1Shutdown&) {
            ++delivered;
        }
    }
    EXPECT_GE(delivered, 150U);
    EXPECT_GE(fills, 400U);
    EXPECT_EQ(shown, (std::set<std::uint64_t>{0, 2, 3, 4}));
    EXPECT_TRUE(reasons.contains(static_cast<std::uint64_t>(vmx::ExitReason::triple_fault)));
}

}  // namespace
}  // namespace flatback::machine::delivery_test
