#include "tag/vpid_pool.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <type_traits>
#include <utility>
#include <vector>

namespace vpid_pool_test {
namespace {

using flatback::tag::raw;
using flatback::tag::TagNumber;
using flatback::tag::Vpid;
using flatback::tag::VpidPool;

static_assert(!std::is_copy_constructible_v<Vpid> && !std::is_copy_assignable_v<Vpid>, "a tag has one owner");
static_assert(!std::is_constructible_v<Vpid, VpidPool&, TagNumber>, "only the pool makes owners");
static_assert(!std::is_convertible_v<std::uint16_t, TagNumber>, "a number is not a tag");

TEST(VpidPool, GivesEveryTagFromOneTo65535OnceAndNoneAfter) {
    const auto pool = std::make_unique<VpidPool>();
    std::vector<Vpid> held;
    std::set<std::uint16_t> seen;
    while (std::optional<Vpid> tag = pool->allocate()) {
        EXPECT_TRUE(seen.insert(raw(tag->number())).second);
        held.push_back(std::move(*tag));
    }
    EXPECT_EQ(seen.size(), 65535U);
    EXPECT_EQ(*seen.begin(), 1U);
    EXPECT_EQ(*seen.rbegin(), 65535U);
    EXPECT_EQ(pool->owned(), 65535U);
    EXPECT_FALSE(pool->allocate());

    held.clear();
    EXPECT_EQ(pool->owned(), 0U);
}

TEST(VpidPool, CanBeSmall) {
    VpidPool pool{2};
    EXPECT_EQ(pool.size(), 2U);
    const std::optional<Vpid> first = pool.allocate();
    const std::optional<Vpid> second = pool.allocate();
    ASSERT_TRUE(first && second);
    EXPECT_NE(first->number(), second->number());
    EXPECT_FALSE(pool.allocate());
}

TEST(VpidPool, MayHaveNothingToGive) {
    VpidPool pool{0};
    EXPECT_FALSE(pool.allocate());
    EXPECT_FALSE(pool.allocate());
}

TEST(VpidPool, TheEndOfTheHandleIsTheReleaseOfTheTag) {
    VpidPool pool{1};
    {
        const std::optional<Vpid> tag = pool.allocate();
        EXPECT_EQ(pool.owned(), 1U);
        EXPECT_FALSE(pool.allocate());
    }
    EXPECT_EQ(pool.owned(), 0U);
    EXPECT_TRUE(pool.allocate());
}

TEST(VpidPool, AMovedHandleIsReleasedOnce) {
    VpidPool pool{4};
    {
        std::optional<Vpid> tag = pool.allocate();
        ASSERT_TRUE(tag);
        const TagNumber number = tag->number();
        Vpid second = std::move(*tag);
        EXPECT_EQ(tag->number(), TagNumber::none);  // NOLINT(bugprone-use-after-move): the point of it
        EXPECT_EQ(second.number(), number);
        EXPECT_EQ(pool.owned(), 1U);

        Vpid third = *pool.allocate();
        third = std::move(second);
        EXPECT_EQ(pool.owned(), 1U) << "what was assigned over is given back";
        Vpid& same = third;
        third = std::move(same);
        EXPECT_EQ(third.number(), number);
        EXPECT_EQ(pool.owned(), 1U);
    }
    EXPECT_EQ(pool.owned(), 0U);
}

TEST(VpidPool, AReleasedHandleIsEmptyAndIsNotReleasedAgain) {
    VpidPool pool{2};
    std::optional<Vpid> tag = pool.allocate();
    ASSERT_TRUE(tag);
    tag->release();
    tag->release();
    EXPECT_EQ(tag->number(), TagNumber::none);
    EXPECT_EQ(pool.owned(), 0U);
    tag.reset();
    const std::optional<Vpid> first = pool.allocate();
    const std::optional<Vpid> second = pool.allocate();
    EXPECT_TRUE(first && second);
    EXPECT_FALSE(pool.allocate()) << "no tag is in the pool twice";
}

TEST(VpidPool, EveryTagThatWasFreeGoesOutBeforeAReleasedOneReturns) {
    constexpr std::uint16_t tags = 8;
    VpidPool pool{tags};
    std::vector<Vpid> held;
    for (unsigned i = 0; i < 5; ++i) held.push_back(*pool.allocate());
    const TagNumber released = held[1].number();
    held[1].release();
    // Three tags were free beside it.
    for (unsigned i = 0; i < 3; ++i) {
        held.push_back(*pool.allocate());
        EXPECT_NE(held.back().number(), released) << "after " << i << " other allocations";
    }
    EXPECT_EQ(pool.allocate()->number(), released);
}

TEST(VpidPool, ReusesInTheOrderOfRelease) {
    VpidPool pool{6};
    std::vector<Vpid> held;
    while (std::optional<Vpid> tag = pool.allocate()) held.push_back(std::move(*tag));
    std::vector<TagNumber> order;
    for (const std::size_t i : {4U, 0U, 5U, 2U}) {
        order.push_back(held[i].number());
        held[i].release();
    }
    std::vector<Vpid> again;
    for (const TagNumber expected : order) {
        again.push_back(*pool.allocate());
        EXPECT_EQ(again.back().number(), expected);
    }
}

TEST(VpidPool, ATagThatIsTakenAndGivenBackForEverGoesRoundAllOfThem) {
    const auto pool = std::make_unique<VpidPool>();
    std::vector<std::uint32_t> last(65536, 0);
    // Some 6 times round: the ring's laps are passed too.
    for (std::uint32_t turn = 1; turn <= 400'000; ++turn) {
        const std::uint16_t number = raw(pool->allocate()->number());
        if (last[number] != 0) {
            ASSERT_EQ(turn - last[number], 65535U) << "tag " << number;
        }
        last[number] = turn;
    }
}

TEST(VpidPool, HoldsToTheOrderOfReleaseUnderAnyPatternOfUse) {
    constexpr std::uint16_t tags = 37;
    const auto pool = std::make_unique<VpidPool>(tags);
    std::deque<std::uint16_t> free;
    for (std::uint16_t i = 1; i <= tags; ++i) free.push_back(i);
    std::vector<Vpid> held;
    std::uint32_t random = 12345;
    for (unsigned step = 0; step < 300'000; ++step) {
        random = random * 1664525 + 1013904223;
        const std::uint32_t choice = random >> 16;
        if ((choice & 1) != 0) {
            std::optional<Vpid> tag = pool->allocate();
            ASSERT_EQ(tag.has_value(), !free.empty());
            if (!tag) continue;
            ASSERT_EQ(raw(tag->number()), free.front());
            free.pop_front();
            held.push_back(std::move(*tag));
        } else if (!held.empty()) {
            const std::size_t i = (choice >> 1) % held.size();
            free.push_back(raw(held[i].number()));
            held[i] = std::move(held.back());
            held.pop_back();
        }
        ASSERT_EQ(pool->owned(), held.size());
    }
}

}  // namespace
}  // namespace vpid_pool_test
