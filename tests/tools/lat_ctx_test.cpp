#include "tools/measure/lat_ctx.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/tools/printed_values.hpp"
#include "tools/table/targets.hpp"

namespace flatback::tools::lat_ctx_test {
namespace {

// What the run of that name prints of the benchmark, with `ticks` as every raw figure; without lines that
// hold `omitted`.
RunValues values_of_run(std::string_view run, unsigned ticks, std::string_view omitted = "nothing") {
    std::string lines;
    for (const LatCtxLevel& level : lat_ctx_levels) {
        if (level.run != run) continue;
        for (const std::string_view column : lat_ctx_columns) {
            const std::string prefix = fmt::format("FLATBACK value lat_ctx.{}.{}.", level.key, column);
            lines += fmt::format("{}ticks {}\n{}switch_ticks 40\n", prefix, ticks, prefix);
            if (!level.counted) continue;
            lines += fmt::format(
                "{}l2_entries 0.0200\n{}l0_exits 0.0500\n{}l2_tag_flushes 0.0000\n"
                "{}l1_tag_flushes 0.0010\n",
                prefix, prefix, prefix, prefix);
        }
    }
    lines +=
        "FLATBACK value l0.l1_entry_tsc 1000\nFLATBACK value l1.user_tsc 5000\nFLATBACK value boot.l2 "
        "3000\n";
    return values_without(lines, omitted);
}

Measurements complete() {
    Measurements measurements;
    for (const LatCtxLevel& level : lat_ctx_levels)
        measurements.linux_by_mode[std::string{level.run}] =
            values_of_run(level.run, level.key == "bare" ? 1000 : 1015);
    return measurements;
}

Target target(const Measurements& measurements, std::string_view word) {
    const auto all = targets(measurements);
    return *std::ranges::find_if(
        all, [word](const Target& each) { return each.operation.find(word) != std::string::npos; });
}

TEST(LatCtx, NothingIsMissingWhereEveryLevelPrintedEverything) {
    EXPECT_EQ(missing_lat_ctx(complete()), std::vector<std::string>{});
}

TEST(LatCtx, WhatALevelDidNotPrintIsNamed) {
    Measurements measurements = complete();
    measurements.linux_by_mode["off"] = values_of_run("off", 1015, "8p/64K.l0_exits");
    EXPECT_EQ(missing_lat_ctx(measurements),
              std::vector<std::string>{"lat_ctx.flatback.off.8p/64K.l0_exits"});
    measurements = complete();
    measurements.linux_by_mode["single"] = values_of_run("single", 1015, "l1.user_tsc");
    EXPECT_EQ(missing_lat_ctx(measurements), std::vector<std::string>{"boot of L1 (single)"});
    measurements.linux_by_mode.clear();
    // Two values of bare Linux and of QEMU's L2, six of five other levels, in seven columns; two boots of
    // five runs.
    EXPECT_EQ(missing_lat_ctx(measurements).size(), (2 * 2 + 5 * 6) * 7 + 2 * 5);
}

TEST(LatCtx, TheReportHasEveryLevelAndColumn) {
    nlohmann::ordered_json report;
    add_lat_ctx(report, complete());
    EXPECT_EQ(report["lat_ctx"].size(), 3U);
    EXPECT_EQ(report["lat_ctx"]["bare"].size(), 7U);
    EXPECT_EQ(report["lat_ctx"]["bare"]["2p/0K"]["ticks"], 1000);
    EXPECT_FALSE(report["lat_ctx"]["bare"]["2p/0K"].contains("l0_exits"))
        << "there is no L0 that could count";
    EXPECT_EQ(report["lat_ctx"]["l1"]["16p/64K"]["l1_tag_flushes"], 0.001);
    EXPECT_EQ(report["lat_ctx"]["flatback"].size(), 5U);
    EXPECT_EQ(report["lat_ctx"]["flatback"]["mapped_ept0"]["8p/16K"]["l2_entries"], 0.02);
    EXPECT_EQ(report["boot"]["flatback"]["l1"], 4000);
    EXPECT_EQ(report["boot"]["flatback"]["l2"], 3000);
    EXPECT_EQ(report["boot"]["flatback"]["l2_qemu"], 3000);
}

TEST(LatCtx, RatiosAreOfSumsOverTheColumns) {
    const Measurements measurements = complete();
    const LatCtxLevel& mapped = lat_ctx_level("flatback.mapped");
    EXPECT_DOUBLE_EQ(lat_ctx_per_l2_entry(measurements, mapped, "l0_exits").value_or(0), 2.5);
    EXPECT_DOUBLE_EQ(lat_ctx_per_l2_entry(measurements, mapped, "l2_tag_flushes").value_or(1), 0);
    EXPECT_FALSE(lat_ctx_per_l2_entry({}, mapped, "l0_exits"));
}

TEST(LatCtx, TheWorstColumnCountsAgainstTheTarget) {
    EXPECT_TRUE(target(complete(), "above bare").reached());
    Measurements measurements = complete();
    Transcript slow;
    for (const std::string_view column : lat_ctx_columns) {
        slow.append(fmt::format("FLATBACK value lat_ctx.flatback.mapped.{}.ticks {}\n", column,
                                column == "8p/16K" ? 1030 : 1000));
    }
    measurements.linux_by_mode["mapped"] = RunValues{slow};
    const Target missed = target(measurements, "above bare");
    EXPECT_FALSE(missed.reached());
    EXPECT_NEAR(missed.measured.value_or(0), 3, 1e-9);
}

TEST(LatCtx, TheTableHasARowForEachLevelThatHasTheValue) {
    const std::string table = lat_ctx_table(complete());
    const auto count = [&table](std::string_view word) {
        std::size_t found = 0;
        for (std::size_t at = table.find(word); at != std::string::npos; at = table.find(word, at + 1))
            ++found;
        return found;
    };
    EXPECT_EQ(count("    bare Linux "), 2U);
    EXPECT_EQ(count("    L2, mapped, L1 ept=0"), 6U);
    EXPECT_EQ(count("16p/64K"), 6U);
}

}  // namespace
}  // namespace flatback::tools::lat_ctx_test
