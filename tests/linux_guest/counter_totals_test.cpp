#include "guests/linux/counter_totals.hpp"

#include <gtest/gtest.h>

namespace flatback::guests::counter_totals_test {
namespace {

TEST(CounterTotals, AReplyReadBackIsWhatWasSent) {
    const CounterTotals totals{1, 18'446'744'073'709'551'615U, 0, 70'000};
    const std::string line = format_counter_reply(totals);
    EXPECT_EQ(line,
              "counters l2_entries=1 l0_exits=18446744073709551615 l2_tag_flushes=0 l1_tag_flushes=70000");
    EXPECT_LT(line.size(), counter_line_limit);
    EXPECT_EQ(parse_counter_reply(line), totals);
    EXPECT_EQ(parse_counter_reply(line + "\r\n"), totals);
}

TEST(CounterTotals, EverythingElseIsNoReply) {
    for (
        const char* line : {
            "", "counters", "error it went wrong",
            "counters l2_entries=1 l0_exits=2 l2_tag_flushes=3",                          // one missing
            "counters l2_entries=1 l0_exits=2 l2_tag_flushes=3 l1_tag_flushes=4 more=5",  // one too many
            "counters l2_entries=1 l0_exits=2 l2_tag_flushes=3 l1_tag_flushes=",          // no number
            "counters l2_entries=1 l0_exits=-2 l2_tag_flushes=3 l1_tag_flushes=4",        // not decimal
            "counters l2_entries=1 l0_exits=2x l2_tag_flushes=3 l1_tag_flushes=4",        //
            "counters l2_entries=1 l0_exits=18446744073709551616 l2_tag_flushes=3 l1_tag_flushes=4",  // too
                                                                                                      // large
            "counters l2_entries=1 l1_exits=2 l2_tag_flushes=3 l1_tag_flushes=4",  // unknown name
            "counters l2_entries 1 l0_exits=2 l2_tag_flushes=3 l1_tag_flushes=4",  //
            "counter l2_entries=1 l0_exits=2 l2_tag_flushes=3 l1_tag_flushes=4",   //
        }) {
        EXPECT_FALSE(parse_counter_reply(line)) << line;
    }
}

TEST(CounterTotals, DifferencesNeverGoBelowZero) {
    EXPECT_EQ(since({1, 10, 100, 5}, {4, 30, 99, 5}), (CounterTotals{3, 20, 0, 0}));
}

}  // namespace
}  // namespace flatback::guests::counter_totals_test
