// Random programs, nested against bare; one that differs is shortened.
#include "judge/trial/random_program.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdint>
#include <iostream>
#include <random>
#include <vector>

#include "judge/trial/reach.hpp"
#include "judge/trial/trial.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/field.hpp"

namespace flatback::machine::random_program_test {
namespace {

void expect_same(const NestedWorld::Options& options, bool has_handlers_and_modes = false) {
    const auto length = *rc::gen::noShrink(rc::gen::inRange<std::size_t>(4, 400));
    // The account shortens by whole steps, which is better than what shrinking bytes could do.
    const auto bytes = *rc::gen::noShrink(
        rc::gen::container<std::vector<std::uint8_t>>(length, rc::gen::arbitrary<std::uint8_t>()));
    const Program program = random_program(bytes, has_handlers_and_modes);
    if (compare(program, options)) RC_FAIL(account(program, options));
}

// The same programs each time, each under a random host of its own.
void expect_same_with_handlers_where_states_are_saved() {
    std::mt19937_64 random(20261201);
    for (unsigned number = 0; number < 50; ++number) {
        std::vector<std::uint8_t> bytes(4 * (20 + random() % 80));
        for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
        const NestedWorld::Options options{
            .vcpus = 2, .random_host = 1 + random() % 999'999, .saves_states = true};
        const Program program = random_program(bytes, true);
        ASSERT_FALSE(compare(program, options)) << account(program, options);
    }
}

RC_GTEST_PROP(RandomPrograms, AreTheSameBareAndNested, ()) {
    expect_same({.vcpus = 2});
}

RC_GTEST_PROP(RandomPrograms, AreTheSameWithFewerTagsThanVpid12, ()) {
    const auto vpids = static_cast<std::uint16_t>(*rc::gen::inRange(0, 5));
    expect_same({.vcpus = 2, .vpids = vpids});
}

// L0 has every external interrupt, and gives L1's on.
RC_GTEST_PROP(RandomPrograms, AreTheSameWhereInterruptsAreGivenByL0, ()) {
    using enum NestedWorld::Options::Interrupts;
    NestedWorld::Options options{.vcpus = 2};
    options.interrupts = *rc::gen::element(l0_acknowledges_as_they_go_in, l0_knows_the_vector);
    expect_same(options);
}

RC_GTEST_PROP(RandomPrograms, AreTheSameWithOneTagForAllVpid12, ()) {
    expect_same({.vcpus = 2, .tags = tag::Policy::single, .shadow_vmcs = false});
}

// The host wants other things of L2 for itself all the time, does its instructions or not, and moves it.
RC_GTEST_PROP(RandomPrograms, AreTheSameUnderARandomHost, ()) {
    const auto seed = *rc::gen::inRange<std::uint64_t>(1, 1'000'000);
    expect_same({.vcpus = 2, .random_host = seed});
}

RC_GTEST_PROP(RandomPrograms, AreTheSameUnderARandomHostWithFewTags, ()) {
    const auto seed = *rc::gen::inRange<std::uint64_t>(1, 1'000'000);
    const auto vpids = static_cast<std::uint16_t>(*rc::gen::inRange(0, 5));
    expect_same({.vcpus = 2, .shadow_vmcs = false, .vpids = vpids, .random_host = seed});
}

// Between any two steps another L0 takes over, or a state is saved and restored in place right before an
// entry.
RC_GTEST_PROP(RandomPrograms, AreTheSameWhereStatesAreSavedAndRestored, ()) {
    const auto seed = *rc::gen::inRange<std::uint64_t>(1, 1'000'000);
    expect_same({.vcpus = 2, .random_host = seed, .saves_states = true});
}

RC_GTEST_PROP(RandomPrograms, AreTheSameWhereStatesAreSavedAndRestoredWithFewTags, ()) {
    const auto seed = *rc::gen::inRange<std::uint64_t>(1, 1'000'000);
    const auto vpids = static_cast<std::uint16_t>(*rc::gen::inRange(0, 5));
    expect_same(
        {.vcpus = 2, .shadow_vmcs = false, .vpids = vpids, .random_host = seed, .saves_states = true});
}

// L1 and its L2s have IDTs, and L2s leave 64-bit mode.
RC_GTEST_PROP(RandomPrograms, AreTheSameWithHandlersAndModes, ()) {
    const auto vpids = static_cast<std::uint16_t>(*rc::gen::element(65535, 65535, 0, 3));
    expect_same({.vcpus = 2, .vpids = vpids}, true);
}

RC_GTEST_PROP(RandomPrograms, AreTheSameWithHandlersAndModesUnderARandomHost, ()) {
    const auto seed = *rc::gen::inRange<std::uint64_t>(1, 1'000'000);
    expect_same({.vcpus = 2, .random_host = seed}, true);
}

TEST(RandomPrograms, AreTheSameWithHandlersAndModesWhereStatesAreSavedAndRestored) {
    expect_same_with_handlers_where_states_are_saved();
}

/// Programs of 60 steps from one seed.
Reach reach_of_many(std::size_t programs, const NestedWorld::Options& options,
                    bool has_handlers_and_modes = false) {
    std::mt19937_64 random(20261122);
    std::vector<std::uint8_t> bytes(240);
    Reach reach;
    for (std::size_t number = 0; number < programs; ++number) {
        for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
        reach += reach_of(random_program(bytes, has_handlers_and_modes), options);
    }
    return reach;
}

// What the properties above are worth: nearly every program must do what the engine is about.
TEST(RandomPrograms, ReachWhatTheyAreFor) {
    const Reach reach = reach_of_many(100, {.vcpus = 2});
    std::cout << describe(reach);
    EXPECT_GE(100 * reach.under_two_vpids, 75 * reach.programs);
    EXPECT_GE(100 * reach.with_ept_and_without, 75 * reach.programs);
    EXPECT_GE(reach.entries, 10 * reach.programs);
    EXPECT_GE(reach.failed_entries, reach.programs);
    EXPECT_GE(reach.accesses, 5 * reach.programs);
    EXPECT_GE(2 * reach.faults, reach.programs);
    EXPECT_GE(reach.flushes, 10 * reach.programs);
    EXPECT_GE(reach.nmis, reach.programs);
    EXPECT_GE(2 * reach.interrupts, reach.programs);
    EXPECT_GE(2 * reach.invepts, reach.programs);
    EXPECT_GE(100 * reach.moves, 75 * reach.programs);
    EXPECT_GE(2 * reach.taken_pages, reach.programs);
    for (std::size_t type = 0; type < reach.invvpids.size(); ++type) {
        EXPECT_GE(4 * reach.invvpids[type], reach.programs) << "type " << type;
        EXPECT_GE(16 * reach.invvpid_hits[type], reach.programs) << "type " << type;
        if (type != 2) {
            EXPECT_GT(reach.invvpids[type], reach.invvpid_hits[type]) << "no miss of type " << type;
        }
    }
}

// ... and those with handlers and modes: what is delivered through IDTs, and accesses in both older modes.
TEST(RandomPrograms, ReachHandlersAndModes) {
    const Reach reach = reach_of_many(100, {.vcpus = 2}, true);
    std::cout << describe(reach);
    EXPECT_GE(reach.entries, 10 * reach.programs);
    EXPECT_GE(reach.through_idts, reach.programs);
    EXPECT_GE(8 * reach.vectored_exits, reach.programs);
    EXPECT_GE(2 * reach.pae_accesses, reach.programs);
    EXPECT_GE(4 * reach.accesses_of_32_bits, reach.programs);
}

TEST(Reach, CountsWhatAProgramDoes) {
    Scenario say;
    say.edit().map(1, 0x4000'0000, layout::data_page(0)).l2().nop().l1().vmxon();
    for (const unsigned guest : {0U, 1U}) {
        say.prepare(layout::vmcs_region(guest), {.vpid = static_cast<std::uint16_t>(5 + guest), .tables = 1});
        say.vmlaunch().l2().load(0x4000'0000).load(0x5000'0000).vmcall().l1();
    }
    say.vmwrite(vmx::field::guest_rflags, 0).vmresume();
    say.invvpid_single(5).invvpid_single(9).invvpid(4, 5).invept_all().l0().move_vcpu(1).move_vcpu(1);
    const Reach reach = reach_of(say.program(), {});
    EXPECT_EQ(reach.under_two_vpids, 1U);
    EXPECT_EQ(reach.with_ept_and_without, 0U);
    EXPECT_EQ(reach.passed_over, 1U);
    EXPECT_EQ(reach.entries, 2U);
    EXPECT_EQ(reach.failed_entries, 1U);
    EXPECT_EQ(reach.accesses, 2U);
    EXPECT_EQ(reach.faults, 2U);
    EXPECT_EQ(reach.invvpids[1], 2U);
    EXPECT_EQ(reach.invvpid_hits[1], 1U);
    EXPECT_EQ(reach.invepts, 1U);
    EXPECT_EQ(reach.moves, 1U);
}

}  // namespace
}  // namespace flatback::machine::random_program_test
