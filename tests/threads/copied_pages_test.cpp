// Pages of which several processors use copies, under the sanitizer: threads in the place of processors, each
// with the right to write to each page in a word of its own, as its EPT01 has it.
#include "metal/memory/copied_pages.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <barrier>
#include <thread>
#include <vector>

namespace flatback::metal::copied_pages_test {
namespace {

constexpr std::uint64_t page_of(unsigned number) {
    return std::uint64_t{number} << 12;
}
constexpr CopiedPages::Processors all(unsigned processors) {
    return (CopiedPages::Processors{1} << processors) - 1;
}

void close_all(CopiedPages& kept, unsigned processor) {
    kept.closed(processor, kept.to_close(processor));
}

TEST(CopiedPages, APageIsKeptOnceEveryRunningProcessorHasClosedIt) {
    CopiedPages kept;
    const auto running = [] { return all(3); };
    auto answer = kept.keep(page_of(7), running);
    EXPECT_FALSE(answer.kept);
    EXPECT_EQ(answer.to_ask, all(3));
    EXPECT_EQ(kept.keep(page_of(7), running).to_ask, 0U);  // each is asked once
    close_all(kept, 0);
    close_all(kept, 2);
    EXPECT_FALSE(kept.keep(page_of(7), running).kept);
    close_all(kept, 1);
    EXPECT_TRUE(kept.keep(page_of(7), running).kept);
    EXPECT_FALSE(kept.keep(page_of(8), running).kept);
}

TEST(CopiedPages, AWriteAnywhereIsAnotherValueAndEndsIt) {
    CopiedPages kept;
    const auto running = [] { return all(2); };
    (void)kept.keep(page_of(1), running);
    close_all(kept, 0);
    close_all(kept, 1);
    ASSERT_TRUE(kept.keep(page_of(1), running).kept);
    const std::uint64_t before = kept.writes();
    kept.open(1, page_of(1));
    EXPECT_NE(kept.writes(), before);
    const auto answer = kept.keep(page_of(1), running);
    EXPECT_FALSE(answer.kept);
    EXPECT_EQ(answer.to_ask, CopiedPages::Processors{2});  // the other one still has it closed
}

TEST(CopiedPages, APageWrittenAllTheTimeIsAskedForEverMoreRarely) {
    CopiedPages kept;
    const auto running = [] { return all(2); };
    unsigned waited = 0;
    unsigned last = 0;
    for (unsigned write = 0; write < 20; ++write) {
        for (waited = 0; kept.keep(page_of(1), running).to_ask == 0; ++waited) ASSERT_LT(waited, 5000U);
        EXPECT_GE(waited, last);
        last = waited;
        close_all(kept, 0);
        close_all(kept, 1);
        kept.open(0, page_of(1));
    }
    EXPECT_EQ(last, 4096U);
}

// Whatever patience says: it closes what is there before it runs.
TEST(CopiedPages, AProcessorThatBeginsFindsWhatTheOthersKeep) {
    CopiedPages kept;
    CopiedPages::Processors run = 1;
    const auto running = [&run] { return run; };
    (void)kept.keep(page_of(1), running);
    for (unsigned write = 0; write < 2; ++write) {  // behind the second one it is to be copied for a while
        close_all(kept, 0);
        kept.open(0, page_of(1));
    }
    close_all(kept, 0);
    ASSERT_TRUE(kept.keep(page_of(1), running).kept);
    const auto list = kept.to_close(1);
    ASSERT_EQ(list.size(), 1U);
    EXPECT_EQ(list[0], page_of(1));
    run = 3;
    EXPECT_FALSE(kept.keep(page_of(1), running).kept);
    kept.closed(1, list);
    EXPECT_TRUE(kept.keep(page_of(1), running).kept);
}

TEST(CopiedPages, MorePagesThanThereIsPlaceForAreCopiedAndOneGoesFromTimeToTime) {
    CopiedPages kept;
    const auto running = [] { return all(1); };
    for (unsigned number = 0; number < CopiedPages::most_pages; ++number) {
        (void)kept.keep(page_of(number), running);
        close_all(kept, 0);
    }
    const std::uint64_t before = kept.writes();
    unsigned tries = 0;
    while (kept.keep(page_of(1000), running).to_ask == 0) ASSERT_LT(++tries, 5000U);
    EXPECT_GT(tries, 100U);
    EXPECT_NE(kept.writes(), before);  // what was kept of the one that went is no longer
    EXPECT_FALSE(kept.keep(page_of(0), running).kept);
}

// One word of memory a page, which writers count up only where they may; a copy that is taken for current
// must not be older than what its reader has seen written.
TEST(CopiedPages, NoCopyIsTakenForCurrentAfterAWriteThatWasSeen) {
    constexpr unsigned processors = 4;
    constexpr unsigned pages = 3;
    constexpr unsigned rounds = 40'000;
    constexpr unsigned rounds_a_write = 1024;
    CopiedPages kept;
    std::array<std::atomic<std::uint64_t>, pages> memory{};
    std::array<std::array<bool, pages>, processors> writable{};
    for (auto& each : writable) each.fill(true);
    std::array<std::atomic<bool>, processors> asked{};
    std::atomic<unsigned> wrong{0};
    std::atomic<unsigned> taken_for_current{0};
    std::barrier begin(processors);
    const auto run = [&](unsigned here) {
        struct Copy {
            bool kept = false;
            std::uint64_t writes = 0;
            std::uint64_t value = 0;
        };
        std::array<Copy, pages> copies{};
        const auto answer_request = [&] {
            if (!asked[here].exchange(false)) return;
            const auto list = kept.to_close(here);
            for (const std::uint64_t page : list.items()) writable[here][page >> 12] = false;
            kept.closed(here, list);
        };
        begin.arrive_and_wait();
        for (unsigned round = 0; round < rounds; ++round) {
            answer_request();
            const unsigned number = (round + here) % pages;
            if (round % rounds_a_write == 17 * here) {
                if (!writable[here][number]) {
                    kept.open(here, page_of(number));
                    writable[here][number] = true;
                }
                memory[number].fetch_add(1);
                continue;
            }
            const std::uint64_t seen = memory[number].load();
            Copy& copy = copies[number];
            const std::uint64_t writes = kept.writes();
            if (copy.kept && copy.writes == writes) {
                taken_for_current.fetch_add(1);
                if (copy.value < seen) wrong.fetch_add(1);
                continue;
            }
            copy.writes = writes;
            const auto answer = kept.keep(page_of(number), [] { return all(processors); });
            copy.kept = answer.kept;
            for (unsigned other = 0; other < processors; ++other) {
                if ((answer.to_ask >> other & 1) != 0) asked[other].store(true);
            }
            if (!answer.kept) std::this_thread::yield();  // for the others to answer
            copy.value = memory[number].load();
        }
        // Those that still run are not to wait for this one.
        for (unsigned more = 0; more < rounds; ++more) answer_request();
    };
    std::vector<std::jthread> threads;
    for (unsigned here = 0; here < processors; ++here) threads.emplace_back(run, here);
    threads.clear();
    EXPECT_EQ(wrong.load(), 0U);
    EXPECT_GT(taken_for_current.load(), 100U);
}

}  // namespace
}  // namespace flatback::metal::copied_pages_test
