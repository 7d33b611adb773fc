#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/tools/printed_values.hpp"
#include "tools/measure/smp_runs.hpp"
#include "tools/table/smp_table.hpp"

namespace flatback::tools::smp_test {
namespace {

constexpr unsigned processors = 4;

// What the bare L1 prints; `omitted`: not these lines.
RunValues bare_run_values(std::string_view omitted = "nothing", unsigned reflected_exit_of_last = 1000) {
    std::string lines = fmt::format("FLATBACK value bare_l1.smp.cpus {}\n", processors);
    const auto add = [&lines](std::string_view name, unsigned value) {
        lines += fmt::format("FLATBACK value bare_l1.smp.{} {}\n", name, value);
    };
    for (const std::string_view name : smp_values) add(name, 1000);
    for (const std::string_view name : smp_values_by_processor) {
        for (unsigned processor = 0; processor < processors; ++processor)
            add(fmt::format("{}.{}", name, processor),
                processor + 1 == processors ? reflected_exit_of_last : 1000);
    }
    add("flushes_per_move_x100", 100);
    add("flushes_per_entry_x100", 0);
    return values_without(lines, omitted);
}

RunValues linux_run_values(unsigned user_tsc, std::string_view omitted = "nothing") {
    return values_without(fmt::format("FLATBACK value l0.l1_entry_tsc 100\nFLATBACK value l1.user_tsc {}\n"
                                      "FLATBACK value l1.online 4\nFLATBACK value l1.online_again 4\n",
                                      user_tsc),
                          omitted);
}

SmpMeasurements complete() {
    SmpMeasurements measurements;
    measurements.processors = processors;
    measurements.bare = bare_run_values();
    measurements.bare_direct = bare_run_values();
    measurements.linux_one = linux_run_values(1100);
    measurements.linux_all = linux_run_values(1600);
    return measurements;
}

const Target& target(const std::vector<Target>& all, std::string_view operation) {
    for (const Target& each : all) {
        if (each.operation.find(operation) != std::string::npos) return each;
    }
    throw std::runtime_error("no such target");
}

TEST(Smp, NothingIsMissingWhereEveryRunPrintedEverything) {
    EXPECT_EQ(missing_smp_values(complete()), std::vector<std::string>{});
}

TEST(Smp, WhatARunDidNotPrintIsNamedWithTheRun) {
    SmpMeasurements measurements = complete();
    measurements.bare = bare_run_values("flushes_per_move");
    measurements.bare_direct = bare_run_values("reflected_exit.3");
    measurements.linux_one = linux_run_values(1100, "user_tsc");
    measurements.linux_all = linux_run_values(1600, "online_again");
    const std::vector<std::string> expected{
        "bare L1, no L0: bare_l1.smp.reflected_exit.3", "bare L1: bare_l1.smp.flushes_per_move_x100",
        "Linux, one CPU: l1.user_tsc", "Linux, all CPUs: l1.online_again"};
    EXPECT_EQ(missing_smp_values(measurements), expected);
}

TEST(Smp, TargetsAreReachedOnlyWhereTheyAre) {
    SmpMeasurements measurements = complete();
    for (const Target& each : smp_targets(measurements)) EXPECT_TRUE(each.reached()) << each.operation;
    measurements.bare = bare_run_values("nothing", 1011);
    measurements.linux_all = linux_run_values(1601);
    const auto all = smp_targets(measurements);
    EXPECT_EQ(target(all, "dearest - cheapest").measured, 11);
    EXPECT_FALSE(target(all, "dearest - cheapest").reached());
    EXPECT_FALSE(target(all, "above one CPU's alone").reached());
    EXPECT_FALSE(target(all, "boot by one CPU's").reached());
    EXPECT_NE(render_smp_table(measurements).find("not reached"), std::string::npos);
}

TEST(Smp, AMoveWithoutAFlushIsNoneTheLessNotReached) {
    SmpMeasurements measurements = complete();
    measurements.bare = values_without("FLATBACK value bare_l1.smp.flushes_per_move_x100 0\n", "nothing");
    EXPECT_FALSE(target(smp_targets(measurements), "flushes a move").reached());
}

TEST(Smp, TheJsonHasEveryValueAndNullWhereNoneWas) {
    SmpMeasurements measurements = complete();
    const auto whole = nlohmann::json::parse(smp_json(measurements)).at("smp");
    for (const char* const key :
         {"cpus", "l1_online", "l1_boot_ticks", "ipi_l1_ticks", "ipi_l2_ticks", "shootdown_l2_ticks",
          "moved_vcpu_first_entry_ticks", "flushes_per_move", "l2_tag_flushes_per_l2_entry"})
        EXPECT_TRUE(whole.at(key).is_number()) << key;
    EXPECT_EQ(whole.at("l1_boot_ticks"), 1500);
    EXPECT_EQ(whole.at("flushes_per_move"), 1);
    EXPECT_EQ(whole.at("reflected_exit_ticks").size(), processors);
    measurements.bare = bare_run_values("ipi_l2");
    EXPECT_TRUE(nlohmann::json::parse(smp_json(measurements)).at("smp").at("ipi_l2_ticks").is_null());
}

}  // namespace
}  // namespace flatback::tools::smp_test
