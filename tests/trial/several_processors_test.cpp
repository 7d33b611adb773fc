// L1s with several processors, nested against bare; and that such programs do what they are for.
#include "judge/trial/several_processors.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdint>
#include <iostream>
#include <random>
#include <vector>

#include "judge/trial/machine_port.hpp"
#include "judge/trial/nested_world.hpp"
#include "judge/trial/reach.hpp"
#include "judge/trial/trial.hpp"
#include "machine/program/bare_world.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/msr.hpp"

namespace flatback::machine::several_processors_test {
namespace {

/// Both run L1: a page is kept once all have closed it.
NestedWorld::Options on_two() {
    NestedWorld::Options options;
    options.vcpus = 2;
    options.keeps_bitmaps = true;
    return options;
}

NestedWorld::Options on_several() {
    NestedWorld::Options options;
    options.vcpus = several_processors;
    options.processors = several_processors;
    options.keeps_bitmaps = true;
    return options;
}

void expect_same(const NestedWorld::Options& options) {
    const auto length = *rc::gen::noShrink(rc::gen::inRange<std::size_t>(4, 400));
    const auto bytes = *rc::gen::noShrink(
        rc::gen::container<std::vector<std::uint8_t>>(length, rc::gen::arbitrary<std::uint8_t>()));
    const Program program = several_processors_program(bytes);
    if (compare(program, options)) RC_FAIL(account(program, options));
}

RC_GTEST_PROP(ProgramsOnSeveralProcessors, AreTheSameBareAndNested, ()) {
    expect_same(on_several());
}

// The pool is exhausted by all of them at once.
RC_GTEST_PROP(ProgramsOnSeveralProcessors, AreTheSameWithFewerTagsThanProcessorsWant, ()) {
    NestedWorld::Options options = on_several();
    options.vpids = static_cast<std::uint16_t>(*rc::gen::inRange(0, 10));
    expect_same(options);
}

RC_GTEST_PROP(ProgramsOnSeveralProcessors, AreTheSameWithOneTagForAllVpid12, ()) {
    NestedWorld::Options options = on_several();
    options.tags = tag::Policy::single;
    options.shadow_vmcs = false;
    expect_same(options);
}

// Two real processors for the four of L1's, and a host that gives them out anew all the time.
RC_GTEST_PROP(ProgramsOnSeveralProcessors, AreTheSameUnderARandomHostWithFewerOfThem, ()) {
    NestedWorld::Options options = on_several();
    options.processors = 2;
    options.random_host = *rc::gen::inRange<std::uint64_t>(1, 1'000'000);
    options.vpids = static_cast<std::uint16_t>(*rc::gen::inRange(4, 20));
    expect_same(options);
}

/// Every processor begins VMX operation anew, and runs an L2 that reads a page of its own.
Program honest_end() {
    Scenario say;
    for (std::uint8_t processor = 0; processor < several_processors; ++processor) {
        constexpr std::uint64_t address = 0x7000'0000;
        say.on(0, processor).l2().vmcall().l1().vmxoff();
        say.edit().map(3, address, layout::data_page(30)).poke(layout::data_page(30), 0x5AFE);
        // Of those that it has seen before, which others may have left active somewhere.
        say.l1().vmxon().vmclear(layout::vmcs_region(processor));
        say.prepare(layout::vmcs_region(processor), {.vpid = 1, .ept = {}, .tables = 3});
        say.invvpid_all().vmlaunch().l2().load(address).vmcall();
        say.l1().vmread(vmx::field::exit_reason);
    }
    return say.program();
}

/// What becomes of its guests is L1's own affair. L0 stays on its feet, and uses none of its own VMCSs on two
/// processors (judge/trial/machine_port.cpp looks at each); and who begins anew is served.
RC_GTEST_PROP(VmcssOnSeveralProcessors, ThatAreActiveOnTwoDoL0NoHarm, ()) {
    const auto bytes = *rc::gen::noShrink(
        rc::gen::container<std::vector<std::uint8_t>>(400, rc::gen::arbitrary<std::uint8_t>()));
    NestedWorld::Options options = on_several();
    options.random_host = *rc::gen::element<std::uint64_t>(0, 1, 2, 3);
    NestedWorld world(options);
    Runner runner(world);
    try {
        static_cast<void>(runner.run(several_processors_program(bytes, Care::has_none)));
        std::vector<std::uint64_t> loads;
        for (const Step& step : honest_end().steps) {
            const Observation seen = runner.step(step);
            if (step.kind == StepKind::load) loads.push_back(seen.value);
        }
        RC_ASSERT(loads == std::vector<std::uint64_t>(several_processors, 0x5AFE));
    } catch (const EngineFailure& failure) {
        RC_FAIL(failure.what());
    }
}

TEST(VmcssOnSeveralProcessors, AreOftenActiveOnTwo) {
    std::size_t on_two = 0;
    std::mt19937_64 random(20261130);
    std::vector<std::uint8_t> bytes(400);
    for (unsigned number = 0; number < 20; ++number) {
        for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
        BareWorld world({.vcpus = several_processors});
        Runner runner(world);
        static_cast<void>(runner.run(several_processors_program(bytes, Care::has_none)));
        if (!world.machine(0).misuse().empty()) ++on_two;
    }
    EXPECT_GE(on_two, 18U);
}

std::vector<Program> programs_of_one_seed(std::size_t count) {
    std::mt19937_64 random(20261130);
    std::vector<Program> programs;
    std::vector<std::uint8_t> bytes(240);
    for (std::size_t number = 0; number < count; ++number) {
        for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
        programs.push_back(several_processors_program(bytes));
    }
    return programs;
}

TEST(ProgramsOnSeveralProcessors, ReachWhatTheyAreFor) {
    Reach reach;
    for (const Program& program : programs_of_one_seed(50)) reach += reach_of(program, on_several());
    std::cout << describe(reach);
    EXPECT_GE(reach.entries, 25 * reach.programs);
    EXPECT_GE(reach.accesses, 12 * reach.programs);
    EXPECT_GE(reach.l1s_moves, 8 * reach.programs);
    EXPECT_GE(reach.moves, reach.programs);
    EXPECT_GE(reach.taken_pages, reach.programs);
    EXPECT_GE(reach.failed_entries, reach.programs);
    EXPECT_GE(100 * reach.under_two_vpids, 90 * reach.programs);
}

TEST(ProgramsOnSeveralProcessors, AreComparedToTheirEnd) {
    std::size_t compared = 0;
    const auto programs = programs_of_one_seed(30);
    for (const Program& program : programs) {
        Program with_an_end = program;
        // A difference by itself, that is met where nothing before it is left open: an L0 that lies.
        class Lies final : public Defect {
            std::uint64_t told(std::uint32_t msr, std::uint64_t value) override {
                return msr == x86::msr::ia32_vmx_vmcs_enum ? value ^ 1 : value;
            }
        } lies;
        Scenario say;
        say.on(0, 0).l2().vmcall().l1().rdmsr(x86::msr::ia32_vmx_vmcs_enum);
        const Program more = say.program();
        with_an_end.steps.insert(with_an_end.steps.end(), more.steps.begin(), more.steps.end());
        NestedWorld::Options options = on_several();
        options.defect = &lies;
        const auto difference = compare(with_an_end, options);
        if (difference && difference->step + 1 == with_an_end.steps.size()) ++compared;
    }
    EXPECT_GE(10 * compared, 9 * programs.size());
}

/// One processor runs an L2 under MSR bitmaps, again and again; another one writes to them in between, or
/// nobody does.
Program bitmap_program(bool is_written) {
    constexpr std::uint64_t bitmap = layout::data_page(20);
    constexpr std::uint64_t word_of_star_and_lstar = bitmap + 1024 + 0x80 / 8;
    Scenario say;
    say.on(0, 1).l1().vmxon().on(0, 0).vmxon();
    say.prepare(layout::vmcs_region(0), {.vpid = 1, .ept = {}, .tables = 1});
    say.vmwrite(vmx::field::address_of_msr_bitmaps, bitmap);
    say.vmwrite(vmx::field::primary_processor_based_vm_execution_controls,
                0x8400'61F2 | vmx::primary::use_msr_bitmaps);
    say.vmlaunch();
    for (unsigned round = 0; round < 20; ++round) {
        for (unsigned entry = 0; entry < 4; ++entry) {
            say.on(0, 0).l2().rdmsr(x86::msr::ia32_lstar).vmcall().l1().vmresume();
            say.on(0, 1).l1().cpuid();
        }
        say.on(0, 0).l2().vmcall();
        if (is_written) say.on(0, 1).l1().store(word_of_star_and_lstar, round % 2 == 0 ? 1U << 2 : 0);
        say.on(0, 0).l1().vmresume();
    }
    return say.program();
}

TEST(BitmapsOfSeveralProcessors, AreTheSameWhoeverWritesThem) {
    NestedWorld::Options options = on_two();
    EXPECT_EQ(compare(bitmap_program(true), options), std::nullopt) << account(bitmap_program(true), options);
}

std::uint64_t copies_taken_for_current(bool is_written, Defect* defect = nullptr) {
    NestedWorld::Options options = on_two();
    options.defect = defect;
    NestedWorld world(options);
    Runner runner(world);
    for (const Step& step : bitmap_program(is_written).steps) runner.step(step);
    return world.copies_taken_for_current();
}

// Once each processor has closed the page; where one is written again and again, they are copied instead.
TEST(BitmapsOfSeveralProcessors, AreNotCopiedAgainWhileNobodyWrites) {
    EXPECT_GE(copies_taken_for_current(false), 90U);
    EXPECT_LT(copies_taken_for_current(true), 60U);
}

TEST(BitmapsOfSeveralProcessors, AreCopiedForEverWhereACallIsLost) {
    class LosesCalls final : public Defect {
        Answer answers(Request) override { return Answer::never; }
    } defect;
    EXPECT_EQ(copies_taken_for_current(false, &defect), 0U);
    NestedWorld::Options options = on_two();
    options.defect = &defect;
    EXPECT_EQ(compare(bitmap_program(true), options), std::nullopt) << "nobody waits for anybody";
}

}  // namespace
}  // namespace flatback::machine::several_processors_test
