#include "guests/linux/record.hpp"

#include <gtest/gtest.h>

namespace flatback::guests::record_test {
namespace {

TEST(FormatRatio, RoundsToThreeDecimalsAndDropsTrailingZeros) {
    EXPECT_EQ(format_ratio(2, 1000), "0.002");
    EXPECT_EQ(format_ratio(47, 10), "4.7");
    EXPECT_EQ(format_ratio(4, 2), "2");
    EXPECT_EQ(format_ratio(0, 5), "0");
    EXPECT_EQ(format_ratio(2, 3), "0.667");
    EXPECT_EQ(format_ratio(9'999, 10'000), "1");
    EXPECT_EQ(format_ratio(10'050, 1'000), "10.05");
}

TEST(FormatRecord, StartsWithTheMarkOfTheSerialContract) {
    EXPECT_EQ(format_record("value", "modes.single.l2_io_ticks 12"),
              "FLATBACK value modes.single.l2_io_ticks 12");
    EXPECT_EQ(format_record("end", ""), "FLATBACK end");
}

TEST(FormatRecord, IsAlwaysOneLine) {
    EXPECT_EQ(format_record("error", "a\nFLATBACK end\r"), "FLATBACK error a FLATBACK end ");
}

}  // namespace
}  // namespace flatback::guests::record_test
