#include "tools/emulator/halt_watch.hpp"

#include <gtest/gtest.h>

namespace flatback::tools::halt_watch_test {
namespace {

using Verdict = HaltWatch::Verdict;

// A clock and a machine's outside.
struct Halt : testing::Test {
    HaltWatch watch;
    HaltWatch::Time now{std::chrono::hours{1}};
    unsigned halts = 0;
    std::size_t printed = 10;

    Verdict after(unsigned seconds) {
        now += std::chrono::seconds{seconds};
        return watch.look(now, halts, printed);
    }
    void answer(std::uint64_t tick, std::uint64_t instructions, bool halted = true, bool interrupts = false) {
        watch.examined(now, {tick, instructions, halted, interrupts});
    }
};

TEST_F(Halt, SilenceAloneIsNoHalt) {
    EXPECT_EQ(after(0), Verdict::running);
    EXPECT_EQ(after(100), Verdict::running);
}

TEST_F(Halt, TwoLooksThatFindNothingExecutedMakeIt) {
    halts = 1;
    EXPECT_EQ(after(0), Verdict::running);
    EXPECT_EQ(after(1), Verdict::running);
    EXPECT_EQ(after(2), Verdict::examine);
    EXPECT_EQ(after(9), Verdict::running);  // the answer is awaited
    answer(1'000, 77);
    EXPECT_EQ(after(1), Verdict::running);
    EXPECT_EQ(after(1), Verdict::examine);
    answer(1'000'000'000, 77);
    EXPECT_EQ(after(0), Verdict::halted);
}

TEST_F(Halt, TooLittleEmulatedTimeIsLookedAtAgain) {
    halts = 1;
    after(0);
    EXPECT_EQ(after(2), Verdict::examine);
    answer(1'000, 77);
    EXPECT_EQ(after(2), Verdict::examine);
    answer(50'000'000, 77);
    EXPECT_EQ(after(2), Verdict::examine);
    answer(150'000'000, 77);
    EXPECT_EQ(after(0), Verdict::halted);
}

TEST_F(Halt, AnNmiThatWakesItForAMomentIsSeenByTheInstructions) {
    halts = 1;
    after(0);
    EXPECT_EQ(after(2), Verdict::examine);
    answer(1'000, 77);
    EXPECT_EQ(after(2), Verdict::examine);
    answer(1'000'000'000, 95);
    EXPECT_EQ(after(0), Verdict::running);
}

TEST_F(Halt, OneThatRunsAgainIsLeftAloneUntilItsNextHalt) {
    halts = 1;
    after(0);
    EXPECT_EQ(after(2), Verdict::examine);
    answer(1'000, 77, false);
    EXPECT_EQ(after(100), Verdict::running);
    halts = 2;
    EXPECT_EQ(after(0), Verdict::running);
    EXPECT_EQ(after(2), Verdict::examine);
    answer(2'000, 99, true, true);  // waits for an interrupt
    EXPECT_EQ(after(100), Verdict::running);
}

TEST_F(Halt, WhatIsPrintedBetweenStartsAnew) {
    halts = 1;
    after(0);
    EXPECT_EQ(after(2), Verdict::examine);
    answer(1'000, 77);
    printed = 11;
    EXPECT_EQ(after(2), Verdict::running);
    EXPECT_EQ(after(2), Verdict::examine);
    answer(1'000'000'000, 77);
    EXPECT_EQ(after(0), Verdict::running);
}

TEST(DebuggerOutput, AnExaminationIsReadWhenAllOfItIsThere) {
    const std::string output =
        "Next at t=333577030\n(0) [0x0000000f1a60] f000:1a60 (unk. ctxt): inc sp ; 44\n"
        "show param name: <cpu0.activity_state>\nactivity_state = 0x00000001\n"
        "show param name: <cpu0.EFLAGS>\nEFLAGS = 0x46\nshow param name: <cpu0.icount>\nicount = 346644395\n";
    const auto examination = read_examination(output);
    ASSERT_TRUE(examination);
    EXPECT_EQ(examination->tick, 333577030U);
    EXPECT_EQ(examination->instructions, 346644395U);
    EXPECT_TRUE(examination->halted);
    EXPECT_FALSE(examination->interrupts);
    for (std::size_t length = 0; length < output.size(); ++length)
        EXPECT_FALSE(read_examination(output.substr(0, length))) << length;
    EXPECT_EQ(current_vmcs("x\nvmcsptr = 0x5eb3000\n"), 0x5eb3000U);
    EXPECT_EQ(current_vmcs("x\nvmcsptr = 0xffffffffffffffff\n"), std::nullopt);
    EXPECT_EQ(current_vmcs("none"), std::nullopt);
}

}  // namespace
}  // namespace flatback::tools::halt_watch_test
