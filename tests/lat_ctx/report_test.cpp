#include "guests/lat_ctx/report.hpp"

#include <gtest/gtest.h>

namespace flatback::guests::report_test {
namespace {

constexpr ColumnResult plain{10'622.4, 7'000, 2000, std::nullopt};
const ColumnResult counted{10'622.4, 7'000, 2000, CounterTotals{54, 220, 0, 1}};

TEST(LatCtxReport, RecordsAreTheContractsLines) {
    EXPECT_EQ(column_records("lat_ctx.bare", {8, 16}, plain),
              "FLATBACK value lat_ctx.bare.8p/16K.ticks 10622\n"
              "FLATBACK value lat_ctx.bare.8p/16K.switch_ticks 3622\n"
              "FLATBACK value lat_ctx.bare.8p/16K.overhead_ticks 7000\n");
    EXPECT_EQ(column_records("k", {2, 0}, counted),
              "FLATBACK value k.2p/0K.ticks 10622\n"
              "FLATBACK value k.2p/0K.switch_ticks 3622\n"
              "FLATBACK value k.2p/0K.overhead_ticks 7000\n"
              "FLATBACK value k.2p/0K.l2_entries 0.0270\n"
              "FLATBACK value k.2p/0K.l0_exits 0.1100\n"
              "FLATBACK value k.2p/0K.l2_tag_flushes 0.0000\n"
              "FLATBACK value k.2p/0K.l1_tag_flushes 0.0005\n");
}

TEST(LatCtxReport, ARingAcrossProcessorsHasAFigureOfItsOwn) {
    ColumnResult across = plain;
    across.across_ticks = 40'000.4;
    EXPECT_NE(column_records("k", {2, 0}, across).find("FLATBACK value k.2p/0K.across_ticks 40000\n"),
              std::string::npos);
    EXPECT_EQ(table_head(false, true).size(), table_row({2, 0}, across, 1000).size());
}

TEST(LatCtxReport, TheTablesRowsStandUnderItsHead) {
    EXPECT_EQ(table_head(false).size(), table_row({8, 16}, plain, 1000).size());
    EXPECT_EQ(table_head(true).size(), table_row({8, 16}, counted, 1000).size());
    const std::string row = table_row({8, 16}, plain, 1000);
    EXPECT_NE(row.find("8p/16K"), std::string::npos);
    EXPECT_NE(row.find(" 10.62 "), std::string::npos) << "microseconds at 1000 ticks each";
    EXPECT_NE(row.find(" 3.62 "), std::string::npos);
}

}  // namespace
}  // namespace flatback::guests::report_test
