#include "guests/linux/statistics.hpp"

#include <gtest/gtest.h>

#include <array>

namespace flatback::guests {
namespace {

TEST(MedianPerOperation, LeavesOutTheBatchThatAnInterruptFellInto) {
    std::array<std::uint64_t, 5> samples{1600, 1601, 90'000, 1600, 1599};
    EXPECT_EQ(median_per_operation(samples, 16), 100U);
}

TEST(MedianPerOperation, RoundsToTheNearestTick) {
    std::array<std::uint64_t, 1> below{23};
    std::array<std::uint64_t, 1> above{25};
    EXPECT_EQ(median_per_operation(below, 16), 1U);
    EXPECT_EQ(median_per_operation(above, 16), 2U);
}

TEST(SumsOfGroups, AddsNeighboursAndLeavesOutAnIncompleteRest) {
    const std::array<std::uint64_t, 7> samples{1, 2, 3, 10, 20, 30, 100};
    EXPECT_EQ(sums_of_groups(samples, 3), (std::vector<std::uint64_t>{6, 60}));
}

}  // namespace
}  // namespace flatback::guests
