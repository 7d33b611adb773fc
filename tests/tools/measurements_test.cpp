#include "tools/measure/measurements.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/tools/printed_values.hpp"
#include "tools/ground/format_number.hpp"
#include "tools/table/stack_json.hpp"
#include "tools/table/table.hpp"
#include "tools/table/targets.hpp"

namespace flatback::tools::measurements_test {
namespace {

// The serial output of a good Linux run in a mode, without the line that holds `omitted`.
RunValues linux_values(std::string_view mode, std::string_view omitted = "nothing") {
    std::string lines;
    for (const std::string_view value : mode_values)
        lines += fmt::format("FLATBACK value modes.{}.{} 1234\n", mode, value);
    lines += fmt::format("FLATBACK text modes.{}.l2_result pass\n", mode);
    lines +=
        "FLATBACK text l1.cpu_flags fpu vmx ept vpid\nFLATBACK text l1.vmx_flags ept vpid\nFLATBACK text "
        "l1.kvm_intel.vpid Y\n";
    return values_without(lines, omitted);
}

RunValues bare_values_of_run(std::string_view omitted = "nothing") {
    Transcript transcript;
    const auto add = [&](std::string_view name) {
        if (name != omitted) transcript.append(fmt::format("FLATBACK value bare_l1.{} 200\n", name));
    };
    for (const std::string_view name : bare_values) add(name);
    for (const std::string_view name : bare_counts) add(name);
    for (const std::string_view name : trace_values) add(name);
    return RunValues{transcript};
}

Measurements complete() {
    Measurements measurements;
    for (const std::string_view mode : modes) measurements.linux_by_mode.emplace(mode, linux_values(mode));
    measurements.bare = bare_values_of_run();
    measurements.bare_no_shadow = bare_values_of_run();
    measurements.bare_trace = bare_values_of_run();
    return measurements;
}

TEST(Measurements, NothingIsMissingWhereEveryRunPrintedEverything) {
    EXPECT_EQ(missing_values(complete()), std::vector<std::string>{});
}

TEST(Measurements, AMissingValueOfAModeIsNamed) {
    for (const std::string_view mode : modes) {
        for (const std::string_view value : mode_values) {
            Measurements measurements = complete();
            measurements.linux_by_mode[std::string{mode}] = linux_values(mode, value);
            EXPECT_EQ(missing_values(measurements), std::vector{fmt::format("modes.{}.{}", mode, value)});
        }
    }
}

TEST(Measurements, AMissingValueOfTheBareL1IsNamedWithItsRun) {
    Measurements measurements = complete();
    measurements.bare = bare_values_of_run("vmclear");
    measurements.bare_no_shadow = bare_values_of_run("per_reflected.l0_exits");
    measurements.bare_trace = bare_values_of_run(trace_values[1]);
    const std::vector<std::string> expected{"bare_l1.vmclear (shadow VMCS on)",
                                            "bare_l1.per_reflected.l0_exits (shadow VMCS off)",
                                            "bare_l1.trace.per_event_l2_cpuid_reflected_x100 (trace on)"};
    EXPECT_EQ(missing_values(measurements), expected);
}

TEST(Measurements, L1sViewMayNotBeMissingInAnyMode) {
    Measurements measurements = complete();
    measurements.linux_by_mode["single"] = linux_values("single", "cpu_flags");
    measurements.linux_by_mode["off"] = linux_values("off", "kvm_intel");
    const std::vector<std::string> expected{"l1.cpu_flags (single)", "l1.kvm_intel (off)"};
    EXPECT_EQ(missing_values(measurements), expected);
}

TEST(Measurements, AModesValuesFromAnotherModesRunDoNotCount) {
    Measurements measurements = complete();
    measurements.linux_by_mode["off"] = linux_values("mapped");
    EXPECT_EQ(missing_values(measurements).size(), mode_values.size() + 1);
}

TEST(StackJson, HasExactlyTheKeysThatItPromises) {
    const auto report = nlohmann::json::parse(stack_json(complete()));
    EXPECT_EQ(report.size(), 5U);
    ASSERT_FALSE(report["targets"].empty());
    for (const auto& target : report["targets"]) {
        EXPECT_TRUE(target["what"].is_string()) << target;
        EXPECT_TRUE(target.contains("at_most")) << target;
    }
    EXPECT_EQ(report["trace"].size(), trace_values.size());
    EXPECT_EQ(report["l1"]["cpu_flags"], (std::vector<std::string>{"fpu", "vmx", "ept", "vpid"}));
    EXPECT_EQ(report["l1"]["kvm_intel"]["vpid"], "Y");
    EXPECT_EQ(report["modes"].size(), 3U);
    for (const std::string_view mode : modes) {
        const auto& values = report["modes"][std::string{mode}];
        EXPECT_EQ(values.size(), 5U);
        EXPECT_EQ(values["l1_cpuid_ticks"], 1234);
        EXPECT_EQ(values["per_l2_entry"].size(), 3U);
        EXPECT_TRUE(values["per_l2_entry"]["l0_exits"].is_number());
    }
    EXPECT_EQ(report["bare_l1"].size(), bare_values.size());
    EXPECT_EQ(report["bare_l1"]["l1_cpuid"], 200);
}

TEST(StackJson, WhatWasNotMeasuredIsNotThere) {
    Measurements measurements = complete();
    measurements.linux_by_mode["single"] = linux_values("single", "l2_io_ticks");
    const auto report = nlohmann::json::parse(stack_json(measurements));
    EXPECT_FALSE(report["modes"]["single"].contains("l2_io_ticks"));
    EXPECT_TRUE(report["modes"]["mapped"].contains("l2_io_ticks"));
}

TEST(Table, SaysNotMeasuredInPlaceOfAValue) {
    EXPECT_EQ(render_table(complete()).find("not measured\n"), std::string::npos);
    Measurements measurements = complete();
    measurements.bare = bare_values_of_run("vmclear");
    EXPECT_NE(render_table(measurements).find("vmclear                                         not measured"),
              std::string::npos);
}

TEST(Table, MarksThePeersFigures) {
    const std::string table = render_table(complete());
    EXPECT_NE(table.find("peer, vpid*"), std::string::npos);
    EXPECT_NE(table.find("not measured in this run"), std::string::npos);
}

TEST(Table, NumbersHaveGroupsAndAtMostThreeDecimals) {
    EXPECT_EQ(format_number(0), "0");
    EXPECT_EQ(format_number(999), "999");
    EXPECT_EQ(format_number(13461), "13,461");
    EXPECT_EQ(format_number(1234567), "1,234,567");
    EXPECT_EQ(format_number(4.7), "4.7");
    EXPECT_EQ(format_number(0.002), "0.002");
    EXPECT_EQ(format_number(2.0004), "2");
    EXPECT_EQ(format_number(-0.11), "-0.11");
    EXPECT_EQ(format_number(-1234.5), "-1,234.5");
    EXPECT_EQ(format_number(-0.0001), "0");
}

TEST(Targets, ATargetIsReachedByItsValueOrLess) {
    EXPECT_TRUE((Target{"", "", 100, 100.0}.reached()));
    EXPECT_FALSE((Target{"", "", 100, 100.5}.reached()));
    EXPECT_FALSE((Target{"", "", 100, std::nullopt}.reached()));
    EXPECT_FALSE((Target{"", "", 100, 50.0, false}.reached()));
}

TEST(Targets, AlternatingIsReachedOnlyWithoutAFlush) {
    const auto alternating = [](const Measurements& measurements) {
        const auto all = targets(measurements);
        return *std::ranges::find_if(all, [](const Target& target) {
            return target.operation.find("alternating") != std::string::npos;
        });
    };
    EXPECT_FALSE(alternating(complete()).reached());
    Measurements measurements = complete();
    Transcript transcript;
    transcript.append(
        "FLATBACK value bare_l1.l2_cpuid_reflected_alternating 1400\n"
        "FLATBACK value bare_l1.per_alternating.l2_tag_flushes 0\n"
        "FLATBACK value bare_l1.per_alternating.l1_tag_flushes 0\n");
    measurements.bare = RunValues{transcript};
    EXPECT_TRUE(alternating(measurements).reached());
}

}  // namespace
}  // namespace flatback::tools::measurements_test
