#include "guests/lat_ctx/measure.hpp"

#include <gtest/gtest.h>

#include <array>

namespace flatback::guests::measure_test {
namespace {

TEST(Batches, AreWholeRoundsAndOddInNumber) {
    for (const Column& column : usual_columns) {
        for (const std::uint64_t switches : {1U, 7U, 100U, 2000U}) {
            const Batches batches = batches_for(column, switches);
            EXPECT_EQ(batches.count % 2, 1U);
            EXPECT_GE(batches.rounds_each, 1U);
            const std::uint64_t measured = batches.count * batches.rounds_each * column.processes;
            const std::uint64_t batch = batches.rounds_each * column.processes;
            EXPECT_GE(measured + batch, switches) << column_name(column);
            EXPECT_LE(measured, switches + 2 * batch) << column_name(column);
        }
    }
    EXPECT_EQ(batches_for({2, 0}, 2000).rounds_each, 4U);
    EXPECT_EQ(batches_for({16, 0}, 2000).rounds_each, 1U);
}

TEST(Median, LeavesOutTheBatchesThatWereInterrupted) {
    std::array<std::uint64_t, 5> batches{80'000, 81, 79, 80, 90'000};
    EXPECT_DOUBLE_EQ(median_per_turn(batches, 8), 81.0 / 8);
    std::array<std::uint64_t, 1> one{100};
    EXPECT_DOUBLE_EQ(median_per_turn(one, 8), 12.5);
}

TEST(ColumnResult, ASwitchNeverCostsLessThanNothing) {
    EXPECT_DOUBLE_EQ((ColumnResult{30, 20, 1, std::nullopt}).switch_ticks(), 10);
    EXPECT_DOUBLE_EQ((ColumnResult{20, 30, 1, std::nullopt}).switch_ticks(), 0);
}

class CountingSource final : public CounterSource {
public:
    Expected<CounterTotals> read() override {
        ++readings;
        return CounterTotals{
            .l2_entries = 0, .l0_exits = 10 * readings, .l2_tag_flushes = 0, .l1_tag_flushes = 0};
    }
    std::uint64_t readings = 0;
};

TEST(MeasureColumn, ReadsTheCountersRightAroundTheRing) {
    CountingSource source;
    auto bracket = CounterBracket::calibrate(source);
    ASSERT_TRUE(bracket);
    const std::uint64_t before = source.readings;
    const auto result = measure_column({2, 1}, 10, &*bracket);
    ASSERT_TRUE(result) << result.error();
    EXPECT_EQ(source.readings, before + 2);
    ASSERT_TRUE(result->counters);
    EXPECT_EQ(result->counters->l0_exits, 0U) << "the readings' own exits are left out";
    EXPECT_GE(result->switches, 8U);
    EXPECT_GT(result->ticks, 0);
    EXPECT_GT(result->overhead_ticks, 0);
}

TEST(MeasureColumn, WithoutASourceThereAreNoCounters) {
    const auto result = measure_column({3, 0}, 1, nullptr);
    ASSERT_TRUE(result) << result.error();
    EXPECT_FALSE(result->counters);
    EXPECT_EQ(result->switches, 6U) << "one batch of the two rounds that come nearest to eight switches";
}

}  // namespace
}  // namespace flatback::guests::measure_test
