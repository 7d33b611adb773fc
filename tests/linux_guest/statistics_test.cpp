#include "guests/linux/statistics.hpp"

#include <gtest/gtest.h>

#include <array>

namespace flatback::guests::statistics_test {
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

TEST(Mean, CountsEverySampleAndRoundsToTheNearestTick) {
    const std::array<std::uint64_t, 4> samples{10, 10, 10, 92};
    EXPECT_EQ(mean(samples), 31U);  // 122 / 4 = 30.5
}

}  // namespace
}  // namespace flatback::guests::statistics_test
