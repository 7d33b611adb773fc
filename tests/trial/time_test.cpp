// The VMX-preemption timer and the time-stamp counter under the engine (judge/ledger/time_cases.cpp). When
// each instruction is executed the nested run says, and a bare processor has it then.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "judge/ledger/ledger.hpp"
#include "judge/mutants/host_defects.hpp"
#include "judge/trial/nested_world.hpp"
#include "judge/trial/trial.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"
#include "tests/trial/judged_cases.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"

namespace flatback::machine::time_test {
namespace {

namespace field = vmx::field;

TEST(Time, IsWhatABareProcessorCouldHave) {
    test::expect_as_on_a_bare_processor(time_cases(), 200U);
}

// What the cases are worth: L2s that the timer ends, and that another exit does with some of it left.
TEST(Time, RunsOutAndIsSaved) {
    std::size_t ended = 0;
    std::size_t saved = 0;
    for (const LedgerCase& each : time_cases()) {
        NestedWorld world(each.options);
        Runner runner(world);
        std::uint64_t before = 0;
        for (const Step& step : each.program.steps) {
            const Observation seen = runner.step(step);
            ended += seen.status == Observation::Status::exit && seen.exit.reason == 52 ? 1U : 0U;
            if (step.kind == StepKind::vmread &&
                step.operands[0] == field::vmx_preemption_timer_value.encoding)
                saved += seen.value != 0 ? 1U : 0U;
            if (world.vcpu_count(step.vm) == 0) continue;
            EXPECT_GE(world.l1_time(), before) << each.name;
            before = world.l1_time();
        }
    }
    EXPECT_GE(ended, 500U);
    EXPECT_GE(saved, 500U);
}

Program timed_l2(std::uint32_t value) {
    Scenario say;
    say.edit()
        .map(1, 0x4000'0000, layout::data_page(0))
        .ept_map(0, layout::data_page(0), layout::data_page(0));
    say.l1().vmxon().prepare(layout::vmcs_region(0), {.vpid = 1, .ept = 0});
    say.vmwrite(field::pin_based_vm_execution_controls, 0x56)
        .vmwrite(field::vmx_preemption_timer_value, value);
    say.vmlaunch().l2().load(0x4000'0000).nop().nop().nop().nop().nop().nop().nop().nop();
    return say.program();
}

TEST(Time, ATimerThatEndsAUnitEarlyOrLateIsADifference) {
    EXPECT_FALSE(compare(timed_l2(3), {}).has_value());
    for (const int wrong : {-1, 1}) {
        defects::L2FieldDefect off(field::vmx_preemption_timer_value, [wrong](std::uint64_t it) {
            return it + static_cast<std::uint64_t>(static_cast<std::int64_t>(wrong));
        });
        const auto difference = compare(timed_l2(3), {.defect = &off});
        EXPECT_TRUE(difference.has_value()) << wrong;
    }
}

// The host's turn, of which L1 must see nothing.
TEST(Time, ATurnThatDoesNotEndIsADifference) {
    bool found = false;
    for (std::uint64_t seed = 1; seed <= 20 && !found; ++seed) {
        defects::L2FieldDefect never(field::vmx_preemption_timer_value,
                                     [](std::uint64_t) { return std::uint64_t{0xFFFF'FFFF}; });
        Scenario say;
        say.edit().map(1, 0x4000'0000, layout::data_page(0)).l1().vmxon();
        say.prepare(layout::vmcs_region(0), {.vpid = 1}).vmlaunch().l2();
        for (unsigned number = 0; number < 60; ++number) say.nop();
        EXPECT_FALSE(compare(say.program(), {.random_host = seed}).has_value()) << seed;
        const auto difference = compare(say.program(), {.random_host = seed, .defect = &never});
        if (!difference) continue;
        EXPECT_NE(difference->text.find("the host's turn has ended"), std::string::npos) << difference->text;
        found = true;
    }
    EXPECT_TRUE(found);
}

// L1 injects an NMI, has NMI exiting and a timer, and another NMI waits for the end of the delivery.
Program nmi_behind_an_injected_one(std::uint32_t timer, bool with_interrupts) {
    Scenario say;
    say.edit().map(0, 0x4000'0000, layout::data_page(0)).map(1, 0x4000'0000, layout::data_page(0));
    say.l1().vmxon().prepare(layout::vmcs_region(0), {.vpid = 1});
    say.vmwrite(field::pin_based_vm_execution_controls, with_interrupts ? 0x7f : 0x7e);
    say.vmlaunch().l2().vmcall();
    for (unsigned turn = 0; turn < 12; ++turn) {
        say.l1().vmwrite(field::vmx_preemption_timer_value, timer);
        say.vmwrite(field::guest_interruptibility_state, 0);
        say.vmwrite(field::vm_entry_interruption_information, 0x8000'0202);
        if (with_interrupts) say.l0().interrupt(0x41);
        say.l0().nmi_at_next_exit().l1().vmresume().l2().nop().nop().vmcall().l1().iret(0x4000'0000);
        say.vmread(field::exit_reason);
        if (with_interrupts) say.vmresume().l2().nop().vmcall().l1().iret(0x4000'0000).l0().eoi();
    }
    return say.program();
}

// L0's own exit behind the delivery, and L1's timer ends while L0 works: L2 has executed nothing since.
TEST(Time, AnEndThatComesWhileL0WorksIsL2sNextExit) {
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
        for (std::uint32_t timer = 0; timer < 6; ++timer) {
            EXPECT_FALSE(compare(nmi_behind_an_injected_one(timer, false), {.random_host = seed}))
                << seed << ' ' << timer;
        }
    }
}

// A host that puts L2 on the processor with an NMI for it ends its turn at once, before any interrupt of
// L1's.
TEST(Time, NoInterruptComesBeforeAnNmiWhereATurnBegins) {
    for (std::uint64_t seed = 3; seed <= 39; seed += 3)  // of those that leave interrupts to L1
        EXPECT_FALSE(compare(nmi_behind_an_injected_one(40, true), {.random_host = seed})) << seed;
}

}  // namespace
}  // namespace flatback::machine::time_test
