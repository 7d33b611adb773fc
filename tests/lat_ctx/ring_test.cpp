#include "guests/lat_ctx/ring.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <numeric>
#include <set>

#include "guests/lat_ctx/work.hpp"

namespace flatback::guests::ring_test {
namespace {

TEST(Work, TheSumIsThatOfEveryWord) {
    // Sizes around the unrolled loop's, where words are most easily forgotten.
    for (const std::size_t count : {0U, 1U, 255U, 256U, 257U, 4096U}) {
        std::vector<std::uint32_t> words(count);
        std::iota(words.begin(), words.end(), 0xFFFF'FF00U);
        EXPECT_EQ(sum_of(words), std::accumulate(words.begin(), words.end(), std::uint32_t{0})) << count;
    }
}

TEST(Work, EveryProcessHasAnotherSum) {
    std::set<std::uint32_t> sums;
    for (unsigned process = 0; process < most_processes; ++process) {
        const auto words = make_words(16, process);
        EXPECT_EQ(words.size() * sizeof words.front(), 16U * 1024);
        sums.insert(sum_of(words));
    }
    EXPECT_EQ(sums.size(), most_processes);
}

TEST(Ring, TheTokenVisitsEveryProcessInEveryRound) {
    for (const Column& column : {Column{2, 0}, Column{3, 1}, Column{16, 4}}) {
        auto ring = Ring::create(column);
        ASSERT_TRUE(ring) << ring.error();
        EXPECT_TRUE(ring->check()) << "nothing to complain about before the first round";
        for (int round = 0; round < 5; ++round) {
            const auto gone = ring->go_round();
            ASSERT_TRUE(gone) << gone.error();
        }
        const auto right = ring->check();
        EXPECT_TRUE(right) << column_name(column) << ": " << right.error();
    }
}

bool may_run_on(unsigned processor) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    return ::sched_getaffinity(0, sizeof allowed, &allowed) == 0 && CPU_ISSET(processor, &allowed);
}

TEST(Ring, TheTokenVisitsEveryProcessWhereTheyAreOnSeveralProcessors) {
    if (!may_run_on(0) || !may_run_on(1)) GTEST_SKIP() << "this machine has no two processors for it";
    auto ring = Ring::create({4, 1}, 2);
    ASSERT_TRUE(ring) << ring.error();
    for (int round = 0; round < 5; ++round) ASSERT_TRUE(ring->go_round());
    EXPECT_TRUE(ring->check());
    for (std::size_t child = 0; child < ring->children().size(); ++child) {
        cpu_set_t allowed;
        CPU_ZERO(&allowed);
        ASSERT_EQ(::sched_getaffinity(ring->children()[child], sizeof allowed, &allowed), 0);
        EXPECT_EQ(CPU_COUNT(&allowed), 1);
        EXPECT_TRUE(CPU_ISSET((child + 1) % 2, &allowed)) << "by turns";
    }
}

TEST(Ring, AProcessorThatIsNotThereIsAnErrorAndNotAHang) {
    constexpr unsigned processes = 64;
    if (may_run_on(processes - 1)) GTEST_SKIP() << "this machine has so many";
    auto ring = Ring::create({processes, 0}, processes);
    ASSERT_TRUE(ring);
    const auto before = std::signal(SIGPIPE, SIG_IGN);
    EXPECT_FALSE(ring->go_round());
    std::signal(SIGPIPE, before);
}

TEST(Ring, AProcessThatEndsIsAnErrorAndNotAHang) {
    auto ring = Ring::create({4, 1});
    ASSERT_TRUE(ring);
    ASSERT_TRUE(ring->go_round());
    // SIGPIPE is for programs that do not look: this one does, and ignores it.
    const auto before = std::signal(SIGPIPE, SIG_IGN);
    ASSERT_EQ(::kill(ring->children()[1], SIGKILL), 0);
    const auto gone = ring->go_round();
    std::signal(SIGPIPE, before);
    EXPECT_FALSE(gone);
}

TEST(Ring, NoProcessOutlivesIt) {
    {
        auto ring = Ring::create({8, 0});
        ASSERT_TRUE(ring);
        ASSERT_TRUE(ring->go_round());
    }
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
    EXPECT_EQ(errno, ECHILD);
}

TEST(SingleProcess, DoesTheSameWorkAlone) {
    auto single = SingleProcess::create({16, 4});
    ASSERT_TRUE(single);
    for (int round = 0; round < 3; ++round) {
        ASSERT_TRUE(single->go_round());
    }
    const auto right = single->check();
    EXPECT_TRUE(right) << right.error();
}

}  // namespace
}  // namespace flatback::guests::ring_test
