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

RunValues linux_run_values(std::string_view boot, unsigned online, std::string_view omitted) {
    return values_without(fmt::format("{}FLATBACK value l1.online {}\nFLATBACK value l1.online_again {}\n",
                                      boot, online, online),
                          omitted);
}

RunValues linux_run_values(unsigned user_tsc, std::string_view omitted = "nothing") {
    return linux_run_values(
        fmt::format("FLATBACK value l0.l1_entry_tsc 100\nFLATBACK value l1.user_tsc {}\n", user_tsc), 4,
        omitted);
}

RunValues l2_run_values(std::string_view omitted = "nothing") {
    std::string lines;
    for (const std::string_view column : smp_lat_ctx_columns) {
        for (const std::string_view value : smp_lat_ctx_values)
            lines += fmt::format("FLATBACK value lat_ctx.l2.{}.{} 6543\n", column, value);
    }
    return values_without(lines, omitted);
}

SmpMeasurements complete() {
    SmpMeasurements measurements;
    measurements.processors = processors;
    measurements.flatback.bare = bare_run_values();
    measurements.bare_direct = bare_run_values();
    measurements.flatback.linux_one = linux_run_values(1100);
    measurements.flatback.linux_all = linux_run_values(1600);
    measurements.l2 = l2_run_values();
    return measurements;
}

// As of a KVM, which counts no flushes for the bare L1, and whose L1 tells its boot by one value.
RunValues kvm_linux_run_values(unsigned boot, std::string_view omitted = "nothing") {
    return linux_run_values(fmt::format("FLATBACK value boot.l1 {}\nFLATBACK value l1.user_tsc 7\n", boot), 3,
                            omitted);
}

SmpMeasurements complete_with_kvm() {
    SmpMeasurements measurements = complete();
    SmpFigures& kvm = measurements.kvm.emplace();
    kvm.bare = bare_run_values("flushes_per", 1300);
    kvm.linux_one = kvm_linux_run_values(2000);
    kvm.linux_all = kvm_linux_run_values(5000);
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
    EXPECT_EQ(missing_smp_values(complete_with_kvm()), std::vector<std::string>{});
}

TEST(Smp, WhatARunDidNotPrintIsNamedWithTheRun) {
    SmpMeasurements measurements = complete();
    measurements.flatback.bare = bare_run_values("flushes_per_move");
    measurements.bare_direct = bare_run_values("reflected_exit.3");
    measurements.flatback.linux_one = linux_run_values(1100, "user_tsc");
    measurements.flatback.linux_all = linux_run_values(1600, "online_again");
    measurements.l2 = l2_run_values("8p/16K.across_ticks");
    const std::vector<std::string> expected{"bare L1, no L0: bare_l1.smp.reflected_exit.3",
                                            "bare L1: bare_l1.smp.flushes_per_move_x100",
                                            "Linux, one CPU: l1.user_tsc", "Linux, all CPUs: l1.online_again",
                                            "Linux, L2 of 2 vCPUs: lat_ctx.l2.8p/16K.across_ticks"};
    EXPECT_EQ(missing_smp_values(measurements), expected);
}

TEST(Smp, WhatThePeerDidNotPrintIsMissingTooButForTheFlushesThatItDoesNotCount) {
    SmpMeasurements measurements = complete_with_kvm();
    measurements.kvm->bare = bare_run_values("init_sipi");
    measurements.kvm->linux_one = kvm_linux_run_values(2000, "boot.l1");
    measurements.kvm->linux_all = kvm_linux_run_values(5000, "l1.online");
    const std::vector<std::string> expected{"KVM, all CPUs: bare_l1.smp.init_sipi", "KVM, one CPU: boot.l1",
                                            "KVM, all CPUs: l1.online", "KVM, all CPUs: l1.online_again"};
    EXPECT_EQ(missing_smp_values(measurements), expected);
}

TEST(Smp, ThePeersRunsGiveTheMachineAndL1AsManyProcessorsAsAsked) {
    const PeerGuest peer{.kernel = "/k", .initramfs = "/i", .command_line = "quiet"};
    const auto runs = smp_peer_runs(peer, processors, std::chrono::seconds{9});
    ASSERT_EQ(runs.size(), 2U);
    const auto& alone = smp_runs({}, processors, std::chrono::seconds{9});
    for (const QueuedRun& run : runs) {
        const bool several = run.name.find("one CPU") == std::string::npos;
        EXPECT_EQ(run.request.processors, several ? processors : 1) << run.name;
        EXPECT_EQ(run.request.plan.guest_command_line.find(" peer.l1.processors=4") != std::string::npos,
                  several)
            << run.name;
        EXPECT_EQ(stages_of_smp(run.name).front(), "peer-l0") << run.name;
        for (const QueuedRun& own : alone) EXPECT_NE(run.name, own.name);
    }
}

TEST(Smp, AFinishedRunIsCollectedUnderTheL0ThatItRanOn) {
    std::vector<FinishedRun> finished;
    const auto add = [&finished](const QueuedRun& run) {
        Transcript transcript;
        transcript.append(fmt::format("FLATBACK value number {}\n", finished.size()));
        finished.push_back({run.name, {}, transcript, {}});
    };
    for (const QueuedRun& run : smp_runs({}, processors, std::chrono::seconds{9})) add(run);
    EXPECT_FALSE(collect_smp(finished, processors).kvm);
    for (const QueuedRun& run : smp_peer_runs({}, processors, std::chrono::seconds{9})) add(run);
    const SmpMeasurements measurements = collect_smp(finished, processors);
    const auto name_of = [&finished](const RunValues& values) {
        return finished.at(static_cast<std::size_t>(values.value("number").value())).name;
    };
    EXPECT_EQ(name_of(measurements.flatback.bare), "bare L1");
    EXPECT_EQ(name_of(measurements.flatback.linux_all), "Linux, all CPUs");
    EXPECT_EQ(name_of(measurements.l2), "Linux, L2 of 2 vCPUs");
    ASSERT_TRUE(measurements.kvm);
    EXPECT_EQ(name_of(measurements.kvm->bare), "KVM, all CPUs");
    EXPECT_EQ(name_of(measurements.kvm->linux_one), "KVM, one CPU");
    EXPECT_EQ(name_of(measurements.kvm->linux_all), "KVM, all CPUs");
}

TEST(Smp, TargetsAreReachedOnlyWhereTheyAre) {
    SmpMeasurements measurements = complete();
    for (const Target& each : smp_targets(measurements)) EXPECT_TRUE(each.reached()) << each.operation;
    measurements.flatback.bare = bare_run_values("nothing", 1011);
    measurements.flatback.linux_all = linux_run_values(1601);
    const auto all = smp_targets(measurements);
    EXPECT_EQ(target(all, "dearest - cheapest").measured, 11);
    EXPECT_FALSE(target(all, "dearest - cheapest").reached());
    EXPECT_FALSE(target(all, "above one CPU's alone").reached());
    EXPECT_FALSE(target(all, "boot by one CPU's").reached());
    EXPECT_NE(render_smp_table(measurements).find("not reached"), std::string::npos);
}

TEST(Smp, AMoveWithoutAFlushIsNoneTheLessNotReached) {
    SmpMeasurements measurements = complete();
    measurements.flatback.bare =
        values_without("FLATBACK value bare_l1.smp.flushes_per_move_x100 0\n", "nothing");
    EXPECT_FALSE(target(smp_targets(measurements), "flushes a move").reached());
}

TEST(Smp, ThePeersFiguresStandBesideTheTargets) {
    const auto all = smp_targets(complete_with_kvm());
    EXPECT_EQ(target(all, "dearest - cheapest").peer, "300");
    EXPECT_EQ(target(all, "dearest - cheapest").measured, 0);
    EXPECT_EQ(target(all, "above one CPU's alone").peer, "30");
    EXPECT_EQ(target(all, "boot by one CPU's").peer, "2.5");
    EXPECT_EQ(target(all, "INIT and SIPI").peer, "1,000");
    EXPECT_EQ(target(all, "flushes a move").peer, "-");
    for (const Target& each : all) EXPECT_TRUE(each.reached()) << each.operation;
}

TEST(Smp, TheTableHasThePeersColumnWhereItWasRunAndFitsAScreen) {
    EXPECT_EQ(render_smp_table(complete()).find("KVM as L0"), std::string::npos);
    SmpMeasurements measurements = complete_with_kvm();
    measurements.kvm->bare = values_without(
        "FLATBACK value bare_l1.smp.ipi_l2 77777\nFLATBACK value bare_l1.smp.reflected_exit.3 88888\n",
        "nothing");
    const std::string table = render_smp_table(measurements);
    for (const char* const text : {"KVM as L0", "77,777", "88,888", "5,000", "bare L1 cannot ask it"})
        EXPECT_NE(table.find(text), std::string::npos) << text;
    for (std::size_t start = 0; start < table.size(); start = table.find('\n', start) + 1)
        EXPECT_LE(table.find('\n', start) - start, 120U) << table.substr(start, 130);
}

TEST(Smp, TheJsonHasThePeersValuesUnderItsNameAndWhyOneIsNull) {
    EXPECT_FALSE(nlohmann::json::parse(smp_json(complete())).at("smp").contains("kvm"));
    const auto smp = nlohmann::json::parse(smp_json(complete_with_kvm())).at("smp");
    const auto& kvm = smp.at("kvm");
    EXPECT_EQ(kvm.at("l1_boot_ticks"), 5000);
    EXPECT_EQ(kvm.at("l1_boot_ticks_one_cpu"), 2000);
    EXPECT_EQ(kvm.at("l1_online"), 3);
    EXPECT_EQ(kvm.at("reflected_exit_ticks").at(processors - 1), 1300);
    EXPECT_EQ(smp.at("l1_boot_ticks"), 1500);
    for (const char* const key : {"flushes_per_move", "l2_tag_flushes_per_l2_entry"}) {
        EXPECT_TRUE(kvm.at(key).is_null()) << key;
        EXPECT_TRUE(kvm.at("not_measured").at(key).is_string()) << key;
    }
    for (const auto& [key, value] : smp.items()) {
        if (key != "kvm" && key != "without_l0" && key != "lat_ctx_l2") {
            EXPECT_TRUE(kvm.contains(key)) << key;
        }
    }
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
    EXPECT_EQ(whole.at("lat_ctx_l2").at("2p/0K").at("across_ticks"), 6543);
    EXPECT_EQ(whole.at("reflected_exit_ticks").size(), processors);
    measurements.flatback.bare = bare_run_values("ipi_l2");
    EXPECT_TRUE(nlohmann::json::parse(smp_json(measurements)).at("smp").at("ipi_l2_ticks").is_null());
}

}  // namespace
}  // namespace flatback::tools::smp_test
