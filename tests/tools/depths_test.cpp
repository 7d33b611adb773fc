// Flatback on Flatback: what is booted, and the table.
#include "tools/measure/depths.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tools/image/depth.hpp"
#include "tools/table/depth_table.hpp"

namespace flatback::tools::depths_test {
namespace {

BootPlan linux_plan() {
    BootPlan plan;
    plan.l0 = "l0.elf";
    plan.l0_command_line = "log=debug";
    plan.guest = "vmlinuz";
    plan.guest_kind = KernelKind::linux_bzimage;
    plan.guest_command_line = "quiet";
    plan.modules = {{"initramfs", "its text"}};
    return plan;
}

TEST(Depth, OneLevelIsThePlanAsItWas) {
    BootPlan plan = linux_plan();
    stack_levels(plan, 1, "log=quiet");
    EXPECT_EQ(plan.guest, "vmlinuz");
    EXPECT_EQ(plan.guest_kind, KernelKind::linux_bzimage);
    EXPECT_EQ(plan.modules.size(), 1U);
}

TEST(Depth, EachLevelHasTheNextAsItsFirstModule) {
    BootPlan plan = linux_plan();
    stack_levels(plan, 3, "log=quiet");
    EXPECT_EQ(plan.levels, 3U);
    EXPECT_EQ(plan.l0_command_line, "log=debug");
    EXPECT_EQ(plan.guest, "l0.elf");
    EXPECT_EQ(plan.guest_kind, KernelKind::multiboot1);
    EXPECT_EQ(plan.guest_command_line, "log=quiet");
    ASSERT_EQ(plan.modules.size(), 3U);
    EXPECT_EQ(plan.modules[0].file, "l0.elf");
    EXPECT_EQ(plan.modules[0].text, "log=quiet");
    EXPECT_EQ(plan.modules[1].file, "vmlinuz");
    EXPECT_EQ(plan.modules[1].text, "quiet");
    EXPECT_EQ(plan.modules[2].file, "initramfs");
    EXPECT_EQ(plan.modules[2].text, "its text");
}

TEST(Depth, EachRunHasItsLevels) {
    std::vector<std::pair<std::string, unsigned>> runs;
    for (const QueuedRun& run : depth_runs(3, nullptr, std::chrono::seconds{1}))
        runs.emplace_back(run.name, run.request.plan.levels);
    EXPECT_EQ(runs, (std::vector<std::pair<std::string, unsigned>>{{"depth 3, bare L1, timings", 3},
                                                                   {"depth 3, bare L1, checks", 3},
                                                                   {"depth 2, bare L1, timings", 2},
                                                                   {"depth 2, bare L1, checks", 2},
                                                                   {"depth 1, bare L1, timings", 1},
                                                                   {"depth 1, bare L1, checks", 1}}));
    const LinuxGuest guest;
    EXPECT_EQ(depth_runs(2, &guest, std::chrono::seconds{1}).size(), 6U);
}

FinishedRun finished(std::string name, std::string_view lines) {
    FinishedRun run;
    run.name = std::move(name);
    run.outcome.ending = Ending::shutdown;
    run.transcript.append("FLATBACK stage l0\nFLATBACK stage l1-entry\nFLATBACK stage bare-l1\n");
    run.transcript.append(lines);
    run.transcript.append("FLATBACK end\n");
    return run;
}

std::vector<FinishedRun> runs_without(std::string_view omitted) {
    std::vector<FinishedRun> runs;
    for (unsigned depth = 2; depth >= 1; --depth) {
        std::string lines;
        for (const std::string_view value : depth_values) {
            if (value != omitted) lines += fmt::format("FLATBACK value bare_l1.{} {}\n", value, depth * 1000);
        }
        runs.push_back(finished(fmt::format("depth {}, bare L1, timings", depth), lines));
        runs.push_back(finished(fmt::format("depth {}, bare L1, checks", depth),
                                depth == 1 ? "FLATBACK check one pass\nFLATBACK check two pass\n"
                                           : "FLATBACK check one pass\nFLATBACK check two fail no idea\n"));
    }
    return runs;
}

TEST(Depth, ATableHasEachDepthAndNamesTheChecksThatFail) {
    const auto runs = runs_without("nothing");
    EXPECT_TRUE(missing_of_depths(runs).empty());
    const auto depths = collect_depths(runs);
    ASSERT_EQ(depths.size(), 2U);
    EXPECT_EQ(depths[0].passed, 2U);
    EXPECT_EQ(depths[1].passed, 1U);
    EXPECT_EQ(depths[1].failed, std::vector<std::string>{"two: no idea"});
    const std::string table = render_depth_table(depths);
    EXPECT_NE(table.find("L2 CPUID reflected to L1"), std::string::npos);
    EXPECT_NE(table.find("2,000"), std::string::npos);
    EXPECT_NE(table.find("depth 2: failed: two: no idea"), std::string::npos);
}

TEST(Depth, AboveAnotherHypervisorThereIsOneL0AndThePartsThatTakeLongAreLeftOut) {
    std::vector<std::string> names;
    for (const QueuedRun& run : runs_above_another(LinuxGuest{}, std::chrono::seconds{1})) {
        names.push_back(run.name);
        EXPECT_EQ(run.request.plan.levels, 1U);
        ASSERT_TRUE(run.request.plan.l0);
        const std::string& words = run.request.plan.guest_command_line;
        const bool checks = run.name.find("checks") != std::string::npos;
        const bool bare = run.name.find("bare") != std::string::npos;
        // All checks, but for parts in which an L2 never comes back there.
        EXPECT_EQ(words.find("skip=interrupts,") != std::string::npos, checks) << words;
        EXPECT_EQ(words.find("only="), std::string::npos) << words;
        EXPECT_EQ(words.find("emulator=bochs") != std::string::npos, bare) << words;
    }
    EXPECT_EQ(names, (std::vector<std::string>{"depth 1, Linux with KVM", "depth 1, bare L1, timings",
                                               "depth 1, bare L1, checks"}));
    auto depths = collect_depths(runs_without("nothing"));
    depths.pop_back();
    const std::string table = render_depth_table(depths, "KVM");
    EXPECT_NE(table.find("Flatback on KVM"), std::string::npos) << table;
    EXPECT_EQ(table.find("L0s beneath L1"), std::string::npos) << table;
    EXPECT_NE(table.find("2 (part)"), std::string::npos) << table;
    const auto json = nlohmann::json::parse(depth_json(depths, "KVM"));
    EXPECT_EQ(json["beneath"], "KVM");
    EXPECT_TRUE(json["depths"][0]["checks"]["in_part"]);
    EXPECT_TRUE(nlohmann::json::parse(depth_json(depths))["beneath"].is_null());
}

TEST(Depth, WhatIsKvmsOwnFaultIsToldAndHasNotFailed) {
    constexpr std::string_view known = "vmread-to-memory-across-an-unmapped-page-faults-as-a-write";
    const std::vector<FinishedRun> runs{
        finished("depth 1, bare L1, checks",
                 fmt::format("FLATBACK check {} fail some bytes\nFLATBACK check two fail no idea\n", known))};
    const auto on_itself = collect_depths(runs);
    EXPECT_EQ(on_itself[0].failed.size(), 2U);
    const auto on_kvm = collect_depths(runs, FaultsBeneath::of_kvm);
    EXPECT_EQ(on_kvm[0].failed, std::vector<std::string>{"two: no idea"});
    ASSERT_EQ(on_kvm[0].beneath.size(), 1U);
    EXPECT_TRUE(on_kvm[0].beneath[0].starts_with(known));
    EXPECT_NE(render_depth_table(on_kvm, "KVM").find("on KVM: a fault beneath Flatback: vmread-to-memory"),
              std::string::npos);
    EXPECT_EQ(
        nlohmann::json::parse(depth_json(on_kvm, "KVM"))["depths"][0]["checks"]["faults_beneath"].size(), 1U);
}

TEST(Depth, WhatWasNotMeasuredIsNamedAndAFailedCheckIsNot) {
    EXPECT_EQ(missing_of_depths(runs_without("vmclear")),
              (std::vector<std::string>{"depth 2, bare L1, timings: not measured: bare_l1.vmclear",
                                        "depth 1, bare L1, timings: not measured: bare_l1.vmclear"}));
    auto runs = runs_without("nothing");
    runs[1].outcome.ending = Ending::time_up;
    ASSERT_EQ(missing_of_depths(runs).size(), 1U);
    EXPECT_TRUE(missing_of_depths(runs)[0].starts_with("depth 2, bare L1, checks: the time is up"));
}

TEST(Depth, TheJsonHasNumbersAndSaysWhatIsAPart) {
    auto depths = collect_depths(runs_without("nothing"));
    depths.push_back({.depth = 3});
    const auto json = nlohmann::json::parse(depth_json(depths));
    EXPECT_EQ(json["depths"][1]["depth"], 2);
    EXPECT_EQ(json["depths"][1]["bare_l1"]["l2_cpuid_reflected"], 2000);
    EXPECT_EQ(json["depths"][1]["checks"]["failed"][0], "two: no idea");
    EXPECT_FALSE(json["depths"][1]["checks"]["in_part"]);
    EXPECT_TRUE(json["depths"][2]["checks"]["in_part"]);
    EXPECT_TRUE(json["depths"][2]["bare_l1"]["vmclear"].is_null());
    EXPECT_FALSE(json["depths"][0].contains("linux"));
}

}  // namespace
}  // namespace flatback::tools::depths_test
