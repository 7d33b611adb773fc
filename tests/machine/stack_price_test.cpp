#include "machine/price/stack_price.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "judge/command/bench_counts.hpp"
#include "judge/command/command_line.hpp"

namespace flatback::machine::stack_price_test {
namespace {

using price::Counts;
using price::Range;

constexpr price::ProcessorCosts round_costs = {
    .name = "invented",
    .world_switch = {.cycles = {100, 200}, .source = "invented"},
    .flush_instruction = {.cycles = {10, 20}, .source = "invented"},
    .page_walk_reference = {.cycles = {1, 3}, .source = "invented"}};
constexpr price::Refills round_refills = {.l1_tag = {5, 7}, .l2_tag = {11, 13}};

void expect_range(const std::optional<Range>& range, double low, double high) {
    ASSERT_TRUE(range.has_value());
    EXPECT_DOUBLE_EQ(range->low, low);
    EXPECT_DOUBLE_EQ(range->high, high);
}

TEST(StackPrice, EachCountIsPricedWithItsOwnCost) {
    const Counts counts = {.l0_exits = 4, .l1_tag_flushes = 2, .l2_tag_flushes = 1, .any_tag_flushes = {}};
    const price::StackPrice price = price_of(counts, round_refills, round_costs);
    expect_range(price.world_switches, 400, 800);
    expect_range(price.flush_instructions, 30, 60);
    expect_range(price.refills, 2 * 7 + 13, 3 * (2 * 7 + 13));
    expect_range(price.total(), 400 + 30 + 27, 800 + 60 + 81);
}

TEST(StackPrice, WhatWasNotCountedHasNoPriceAndZeroHasOne) {
    const price::StackPrice nothing = price_of({}, round_refills, round_costs);
    EXPECT_TRUE(nothing.empty());
    const price::StackPrice exits = price_of({.l0_exits = 0}, round_refills, round_costs);
    expect_range(exits.world_switches, 0, 0);
    EXPECT_FALSE(exits.refills.has_value());
    EXPECT_FALSE(exits.flush_instructions.has_value());
    EXPECT_FALSE(exits.total().has_value());
    const price::StackPrice one_tag =
        price_of({.l0_exits = 0, .l2_tag_flushes = 3}, round_refills, round_costs);
    EXPECT_FALSE(one_tag.flush_instructions.has_value());
    EXPECT_FALSE(one_tag.total().has_value());
}

TEST(StackPrice, AFlushOfAnUnknownTagIsBetweenTheTwo) {
    const price::StackPrice price = price_of({.any_tag_flushes = 2}, round_refills, round_costs);
    expect_range(price.refills, 2 * 7 * 1, 2 * 13 * 3);
    expect_range(price.flush_instructions, 20, 40);
}

TEST(StackPrice, ARangeHasTwoDigitsAndNeverShrinks) {
    const Range range = price::rounded({1234, 1234});
    EXPECT_DOUBLE_EQ(range.low, 1200);
    EXPECT_DOUBLE_EQ(range.high, 1300);
    EXPECT_DOUBLE_EQ(price::rounded({0.0456, 9.99}).low, 0.045);
    EXPECT_DOUBLE_EQ(price::rounded({0.0456, 9.99}).high, 10);
    EXPECT_DOUBLE_EQ(price::rounded({0, 700}).low, 0);
    EXPECT_DOUBLE_EQ(price::rounded({0, 700}).high, 700);
}

TEST(StackPrice, AFlushOfL1RefillsWhatL1TouchesInOneExit) {
    const price::Assumptions assume;
    for (const price::ProcessorCosts& costs : price::known_costs()) {
        const TlbGeometry* geometry = find_geometry(costs.name);
        ASSERT_NE(geometry, nullptr) << costs.name << ": priced on a processor that has no geometry";
        const price::Refills refills = refills_of(*geometry, {8, 16}, assume);
        EXPECT_NEAR(refills.l1_tag.misses, assume.l1_code + assume.l1_data, 2) << costs.name;
        EXPECT_GE(refills.l1_tag.walk_references, refills.l1_tag.misses);
        EXPECT_GT(refills.l2_tag.misses, 0);
    }
}

TEST(StackPrice, EveryCostIsARangeWithASource) {
    for (const price::ProcessorCosts& each : price::known_costs()) {
        for (const price::Cost* cost :
             {&each.world_switch, &each.flush_instruction, &each.page_walk_reference}) {
            EXPECT_GT(cost->cycles.low, 0);
            EXPECT_LT(cost->cycles.low, cost->cycles.high);
            EXPECT_FALSE(cost->source.empty());
        }
    }
}

TEST(BenchCounts, AreReadByConfigurationAndColumn) {
    const auto all = read_bench_counts(
        R"({"lat_ctx": {"bare": {"2p/0K": {"ticks": 9}}, "l1": {"2p/0K": {"l0_exits": 1}},
            "flatback": {"mapped": {"8p/16K": {"l0_exits": 2, "l2_tag_flushes": 0}}, "off": null},
            "kvm": {"novpid": {"8p/16K": {"tlb_flushes": 3}}}}})");
    ASSERT_TRUE(all.has_value()) << all.error();
    ASSERT_EQ(all->size(), 3U);
    EXPECT_EQ((*all)[1].name, "flatback.mapped");
    EXPECT_EQ((*all)[1].columns.at(0).counts.l0_exits, 2);
    EXPECT_EQ((*all)[1].columns.at(0).counts.l1_tag_flushes, std::nullopt);
    EXPECT_EQ((*all)[2].columns.at(0).counts.any_tag_flushes, 3);
}

TEST(BenchCounts, ACounterThatLeavesFlushesOutIsNoNumberOfFlushes) {
    const auto all = read_bench_counts(
        R"({"lat_ctx": {"kvm": {"vpid": {"8p/16K": {"l0_exits": 1, "tlb_flushes": 0.002}},
                                "vpid_ept0": {"8p/16K": {"l0_exits": 2, "tlb_flushes": 0}}}}})");
    ASSERT_TRUE(all.has_value()) << all.error();
    ASSERT_EQ(all->size(), 2U);
    for (const CountedSeries& series : *all) {
        EXPECT_EQ(series.columns.at(0).counts.any_tag_flushes, std::nullopt) << series.name;
        EXPECT_NE(series.columns.at(0).counts.l0_exits, std::nullopt) << series.name;
    }
}

struct PriceCommand : testing::Test {
    std::ostringstream out;
    std::ostringstream error;

    int run(const std::string& bench, const std::vector<std::string>& more = {}) {
        const std::string path = testing::TempDir() +
                                 testing::UnitTest::GetInstance()->current_test_info()->name() +
                                 "-counts.json";
        std::ofstream(path) << bench;
        std::vector<std::string> arguments = {"price", "--counts", path};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return command_line(arguments, out, error);
    }
    void expect_refused(const std::string& bench, const char* why) {
        error.str("");
        EXPECT_EQ(run(bench), 2) << bench;
        EXPECT_NE(error.str().find(why), std::string::npos) << error.str();
        EXPECT_EQ(error.str().find('\n'), error.str().size() - 1) << error.str();
    }
};

TEST_F(PriceCommand, WritesTheRangesAndTheSources) {
    const std::string path = testing::TempDir() +
                             testing::UnitTest::GetInstance()->current_test_info()->name() +
                             "-price-of-stack.json";
    const std::string bench =
        R"({"lat_ctx": {"flatback": {"mapped": {"8p/16K": {"l0_exits": 1, "l1_tag_flushes": 0, "l2_tag_flushes": 0}}}}})";
    ASSERT_EQ(run(bench, {"--processor", "haswell", "--json", path}), 0) << error.str();
    const nlohmann::json json = nlohmann::json::parse(std::ifstream(path));
    EXPECT_EQ(json["processor"], "haswell");
    const price::Cost& world_switch = price::find_costs("haswell")->world_switch;
    const nlohmann::json& priced = json["lat_ctx"]["flatback"]["mapped"]["8p/16K"];
    EXPECT_EQ(priced["total"]["low"], world_switch.cycles.low);
    EXPECT_EQ(priced["total"]["high"], world_switch.cycles.high);
    EXPECT_EQ(priced["refills"]["high"], 0);
    EXPECT_EQ(json["costs"]["world_switch"]["source"], world_switch.source);
    EXPECT_NE(out.str().find(world_switch.source), std::string::npos);
}

TEST_F(PriceCommand, APartIsNotGivenForTheWhole) {
    const std::string path =
        testing::TempDir() + testing::UnitTest::GetInstance()->current_test_info()->name() + "-part.json";
    ASSERT_EQ(run(R"({"lat_ctx": {"kvm": {"vpid_ept0": {"8p/16K": {"l0_exits": 1, "tlb_flushes": 0}}}}})",
                  {"--json", path}),
              0)
        << error.str();
    const nlohmann::json json = nlohmann::json::parse(std::ifstream(path));
    const nlohmann::json& priced = json["lat_ctx"]["kvm"]["vpid_ept0"]["8p/16K"];
    EXPECT_TRUE(priced["world_switches"].is_object());
    for (const char* part : {"flush_instructions", "refills", "total"}) {
        EXPECT_TRUE(priced[part].is_null()) << part;
    }
    EXPECT_NE(out.str().find("not counted"), std::string::npos);
}

TEST_F(PriceCommand, RefusesWhatItCanNotPriceInOneLine) {
    expect_refused("", "is not JSON");
    expect_refused("{}", "lat_ctx is missing");
    expect_refused(R"({"lat_ctx": 3})", "lat_ctx is not an object");
    expect_refused(R"({"lat_ctx": {"l1": {"2p/0K": {"l0_exits": -1}}}})", "lat_ctx.l1.2p/0K.l0_exits");
    expect_refused(R"({"lat_ctx": {"l1": {"2p/0K": {"ticks": 5}}}})", "no exits and no flushes are counted");
    EXPECT_EQ(command_line(std::vector<std::string>{"price", "--counts", "/nowhere"}, out, error), 2);
}

}  // namespace
}  // namespace flatback::machine::stack_price_test
