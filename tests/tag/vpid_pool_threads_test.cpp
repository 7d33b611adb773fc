// The pool used by several CPUs at once. Built twice: with the address sanitizer and with the thread
// sanitizer.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "tag/vpid_pool.hpp"

namespace vpid_pool_threads_test {
namespace {

using flatback::tag::raw;
using flatback::tag::Vpid;
using flatback::tag::VpidPool;

// Each thread takes and gives back; a tag found to have two owners is counted.
std::uint32_t two_owners(VpidPool& pool, unsigned threads, unsigned turns, std::size_t most_held) {
    const auto owners = std::make_unique<std::array<std::atomic<std::uint32_t>, 65536>>();
    std::atomic<std::uint32_t> clashes{0};
    std::vector<std::thread> running;
    for (unsigned thread = 0; thread < threads; ++thread) {
        running.emplace_back([&, thread] {
            std::vector<Vpid> held;
            std::uint32_t random = thread + 1;
            const auto give_back = [&](std::size_t i) {
                (*owners)[raw(held[i].number())].fetch_sub(1);
                held[i] = std::move(held.back());
                held.pop_back();
            };
            for (unsigned turn = 0; turn < turns; ++turn) {
                random = random * 1664525 + 1013904223;
                if (held.size() < most_held && (random >> 31) != 0) {
                    if (std::optional<Vpid> tag = pool.allocate()) {
                        if ((*owners)[raw(tag->number())].fetch_add(1) != 0) clashes.fetch_add(1);
                        held.push_back(std::move(*tag));
                    }
                } else if (!held.empty()) {
                    give_back((random >> 8) % held.size());
                }
            }
            while (!held.empty()) give_back(0);
        });
    }
    for (std::thread& thread : running) thread.join();
    return clashes;
}

TEST(VpidPoolThreads, GiveNoTagTwoOwnersWhereThereArePlenty) {
    const auto pool = std::make_unique<VpidPool>();
    EXPECT_EQ(two_owners(*pool, 2, 200'000, 64), 0U);
    EXPECT_EQ(pool->owned(), 0U);
}

TEST(VpidPoolThreads, GiveNoTagTwoOwnersWhereTheyFightForTheLastOne) {
    const auto pool = std::make_unique<VpidPool>(std::uint16_t{3});
    EXPECT_EQ(two_owners(*pool, 4, 100'000, 2), 0U);
    EXPECT_EQ(pool->owned(), 0U);

    std::vector<Vpid> held;
    while (std::optional<Vpid> tag = pool->allocate()) held.push_back(std::move(*tag));
    EXPECT_EQ(held.size(), 3U) << "none was lost, none is there twice";
}

TEST(VpidPoolThreads, AHandleMayDieOnAnotherThread) {
    const auto pool = std::make_unique<VpidPool>(std::uint16_t{1});
    std::optional<Vpid> tag = pool->allocate();
    std::thread{[moved = std::move(tag)]() mutable { moved.reset(); }}.join();
    EXPECT_EQ(pool->owned(), 0U);
    EXPECT_TRUE(pool->allocate());
}

}  // namespace
}  // namespace vpid_pool_threads_test
