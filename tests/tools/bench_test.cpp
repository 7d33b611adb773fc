#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>

#include "tools/bench_json.hpp"
#include "tools/bench_results.hpp"
#include "tools/bench_runs.hpp"
#include "tools/bench_table.hpp"

namespace flatback::tools {
namespace {

using Transcripts = std::map<std::string, std::string, std::less<>>;

std::string value(std::string_view key, std::string_view number) {
    return fmt::format("FLATBACK value {} {}\n", key, number);
}

std::string columns(std::string_view level, unsigned ticks, bool counters) {
    std::string text;
    for (const std::string_view column : lat_ctx_columns) {
        const std::string prefix = fmt::format("lat_ctx.{}.{}.", level, column);
        text += value(prefix + "ticks", std::to_string(ticks));
        if (!counters) continue;
        text += value(prefix + "l2_entries", "0.0200") + value(prefix + "l0_exits", "0.0500") +
                value(prefix + "l2_tag_flushes", "0.0400") + value(prefix + "l1_tag_flushes", "0.0000");
    }
    return text;
}

std::string linux_primitives(std::string_view mode, unsigned ticks) {
    std::string text;
    for (const char* key :
         {"l1_cpuid_ticks", "l2_cpuid_reflected_ticks", "l2_vmcall_ticks", "l2_rdmsr_ticks",
          "l2_ioeventfd_ticks", "l2_io_ticks", "l2_hlt_ticks", "l2_mmio_ticks", "l2_first_touch_ticks"}) {
        text += value(fmt::format("modes.{}.{}", mode, key), std::to_string(ticks));
    }
    return text;
}

std::string bare_l1(unsigned ticks) {
    std::string text;
    for (const std::string_view name : bare_values)
        text += value(fmt::format("bare_l1.{}", name), std::to_string(ticks));
    return text;
}

// What the runs of a good benchmark print.
Transcripts good_transcripts() {
    Transcripts runs;
    runs["bare Linux"] = columns("bare", 10'000, false);
    runs["Flatback mapped"] = columns("l1", 10'050, false) + columns("l2", 10'100, true) +
                              linux_primitives("mapped", 2'000) + value("l0.l1_entry_tsc", "1000000") +
                              value("l1.user_tsc", "221000000") + value("boot.l2", "900000000") +
                              "FLATBACK text modes.mapped.l2_linux.exits.cpuid 300\n"
                              "FLATBACK text modes.mapped.l2_linux.exits_reflected.cpuid 100\n"
                              "FLATBACK text modes.mapped.l2_linux.exits.ept_violation 7\n";
    runs["Flatback single"] = columns("l2", 10'200, true);
    runs["Flatback off"] = columns("l2", 10'300, true);
    runs["Flatback, ept=0"] = columns("l2", 19'000, true);
    runs["Flatback, bare L1"] = bare_l1(1'300);
    runs["bare L1 alone"] = bare_l1(60);
    runs["KVM"] = columns("l2", 10'500, true) + linux_primitives("direct", 13'000) + bare_l1(10'060) +
                  value("boot.l1", "970000000") + value("boot.l2", "800000000");
    runs["KVM, vpid=0"] = columns("l2", 10'600, true);
    runs["KVM, ept=0"] = columns("l2", 33'000, true);
    return runs;
}

BenchResults results_of(const Transcripts& transcripts, bool with_kvm, std::vector<MissingValue>& missing) {
    std::map<std::string, RunValues, std::less<>> values;
    for (const auto& [run, text] : transcripts) {
        Transcript transcript;
        transcript.append(text);
        EXPECT_TRUE(transcript.errors().empty());
        values.emplace(run, RunValues{transcript});
    }
    return bench_results(values, with_kvm, missing);
}

BenchResults good_results() {
    std::vector<MissingValue> missing;
    BenchResults results = results_of(good_transcripts(), true, missing);
    EXPECT_TRUE(missing.empty());
    return results;
}

// The transcripts without one line of one run.
Transcripts without_line(const Transcripts& transcripts, const std::string& run, std::size_t start) {
    Transcripts changed = transcripts;
    std::string& text = changed[run];
    text.erase(start, text.find('\n', start) + 1 - start);
    return changed;
}

TEST(Bench, EachValueThatARunDoesNotPrintIsNamedWithTheRun) {
    const Transcripts good = good_transcripts();
    for (const auto& [run, text] : good) {
        for (std::size_t start = 0; start < text.size(); start = text.find('\n', start) + 1) {
            const std::string line = text.substr(start, text.find('\n', start) - start);
            // The table and JSON do without: KVM's one number of flushes is the other; exits that did not
            // happen; and of the bare L1 alone only one round is wanted.
            const bool not_needed =
                line.find(" text ") != std::string::npos ||
                (run.starts_with("KVM") && line.find("l1_tag_flushes") != std::string::npos) ||
                (run == "bare L1 alone" && line.find("bare_l1.l2_cpuid_reflected ") == std::string::npos);
            std::vector<MissingValue> missing;
            (void)results_of(without_line(good, run, start), true, missing);
            if (not_needed) {
                EXPECT_TRUE(missing.empty()) << line;
                continue;
            }
            ASSERT_EQ(missing.size(), 1U) << line;
            EXPECT_EQ(missing[0].run, run);
            EXPECT_NE(line.find(missing[0].key), std::string::npos) << line;
        }
    }
}

TEST(Bench, WithoutThePeerNothingOfItIsAskedFor) {
    Transcripts transcripts = good_transcripts();
    std::erase_if(transcripts, [](const auto& run) { return run.first.starts_with("KVM"); });
    std::vector<MissingValue> missing;
    const BenchResults results = results_of(transcripts, false, missing);
    EXPECT_TRUE(missing.empty());
    const auto json = nlohmann::json::parse(bench_json(results));
    EXPECT_FALSE(json["lat_ctx"].contains("kvm"));
    EXPECT_FALSE(json["primitives"].contains("kvm"));
    EXPECT_EQ(render_bench(results).find("KVM"), std::string::npos);
}

TEST(Bench, JsonHasTheSystemsByTheirPlacesAndNullWhereThePeerCannotTell) {
    const auto json = nlohmann::json::parse(bench_json(good_results()));
    const auto& lat_ctx = json["lat_ctx"];
    EXPECT_EQ(lat_ctx["bare"]["2p/0K"], (nlohmann::json{{"ticks", 10'000}}));
    EXPECT_EQ(lat_ctx["l1"]["16p/64K"]["ticks"], 10'050);
    for (const char* mode : {"mapped", "single", "off", "mapped_ept0"}) {
        const auto& column = lat_ctx["flatback"][mode]["8p/16K"];
        EXPECT_EQ(column["l2_entries"], 0.02) << mode;
        EXPECT_EQ(column["l0_exits"], 0.05) << mode;
        EXPECT_EQ(column["l2_tag_flushes"], 0.04) << mode;
        EXPECT_EQ(column["l1_tag_flushes"], 0) << mode;
    }
    for (const char* mode : {"vpid", "novpid", "vpid_ept0"}) {
        const auto& column = lat_ctx["kvm"][mode]["8p/64K"];
        EXPECT_TRUE(column["l2_tag_flushes"].is_null()) << mode;
        EXPECT_TRUE(column["l1_tag_flushes"].is_null()) << mode;
        EXPECT_EQ(column["tlb_flushes"], 0.04) << mode;
    }
    EXPECT_EQ(json["boot"]["flatback"]["l1"], 220'000'000);
    EXPECT_EQ(json["boot"]["kvm"]["l2"], 800'000'000);
    EXPECT_EQ(json["primitives"]["kvm"]["linux_l2_mmio"], 13'000);
    const auto& exits = json["exits"]["flatback"]["mapped"];
    EXPECT_EQ(exits["cpuid"], (nlohmann::json{{"handled", 200}, {"reflected", 100}}));
    EXPECT_EQ(exits["ept_violation"], (nlohmann::json{{"handled", 7}, {"reflected", 0}}));
}

TEST(Bench, WhatL0TakesItselfIsARoundLessTheSameRoundWithoutL0) {
    const BenchResults results = good_results();
    EXPECT_EQ(results.primitive(l0_ticks_per_l2_entry, false), 1'240);
    EXPECT_EQ(results.primitive(l0_ticks_per_l2_entry, true), 10'000);
}

TEST(Bench, CountsPerEntryAreOverAllColumns) {
    Transcripts transcripts = good_transcripts();
    std::string& text = transcripts["Flatback mapped"];
    const std::string few = "lat_ctx.l2.2p/0K.l2_entries 0.0200";
    text.replace(text.find(few), few.size(), "lat_ctx.l2.2p/0K.l2_entries 0.2300");
    std::vector<MissingValue> missing;
    const BenchResults results = results_of(transcripts, true, missing);
    // Seven columns with 0.05 exits each, six with 0.02 entries and one with 0.23.
    EXPECT_DOUBLE_EQ(results.per_l2_entry("flatback.mapped", &LatCtx::l0_exits).value(), 1.0);
    EXPECT_EQ(results.per_l2_entry("kvm.vpid", &LatCtx::l2_tag_flushes), std::nullopt);
    EXPECT_EQ(results.per_l2_entry("bare", &LatCtx::l0_exits), std::nullopt);
}

const BenchTarget& target(const std::vector<BenchTarget>& targets, std::string_view what) {
    const auto found =
        std::ranges::find_if(targets, [&](const BenchTarget& each) { return each.what.starts_with(what); });
    EXPECT_NE(found, targets.end()) << what;
    return *found;
}

TEST(Bench, TargetsAreJudgedByThisRunsFigures) {
    const auto targets = bench_targets(good_results());
    EXPECT_TRUE(target(targets, "L2 Linux boots").reached());
    EXPECT_NEAR(target(targets, "L2 above bare").measured.value(), 1.0, 1e-9);
    EXPECT_NEAR(target(targets, "L2 above bare").peer.value(), 5.0, 1e-9);
    EXPECT_TRUE(target(targets, "L2 above bare").reached());
    EXPECT_FALSE(target(targets, "L2-tag flushes").reached());  // two an entry in these transcripts
    EXPECT_TRUE(target(targets, "L1 ept=0").reached());
    EXPECT_EQ(target(targets, "L1 ept=0").peer, 33'000);
    EXPECT_TRUE(target(targets, "L0 exits per L2 entry").reached());  // as many as the peer's
    const BenchTarget& own = target(targets, "L0's ticks");
    EXPECT_EQ(own.to_reach, 1'000);
    EXPECT_FALSE(own.reached());
}

TEST(Bench, TheTableHasARowForEachSystemAndTheirFigures) {
    const std::string table = render_bench(good_results());
    for (const BenchSystem& system : bench_systems(true))
        EXPECT_NE(table.find(system.title), std::string::npos) << system.title;
    for (const char* text : {"2p/0K", "16p/64K", "10,050", "19,000", "33,000", "220,000,000", "not reached"})
        EXPECT_NE(table.find(text), std::string::npos) << text;
    for (std::size_t start = 0; start < table.size(); start = table.find('\n', start) + 1) {
        EXPECT_LE(table.find('\n', start) - start, 130U) << table.substr(start, 130);
    }
}

// The plan: every system is measured by a run of its own kind, and every run is wanted by something.
TEST(Bench, EverySystemHasARunAndRunsHaveNamesOfTheirOwn) {
    LinuxGuest guest;
    guest.command_line = "quiet";
    guest.initramfs = "/plain";
    guest.initramfs_with_l2 = "/with-l2";
    const PeerGuest peer{"/kernel", "/initramfs", "quiet"};
    for (const bool with_kvm : {false, true}) {
        const auto runs = bench_runs(guest, peer, with_kvm, std::chrono::seconds{1});
        std::set<std::string> names;
        for (const BenchRun& each : runs) names.insert(each.run.name);
        EXPECT_EQ(names.size(), runs.size());
        for (const BenchSystem& system : bench_systems(with_kvm))
            EXPECT_TRUE(names.contains(std::string{system.run})) << system.run;
    }
}

TEST(Bench, WordsForL1AreMarkedWhereThePeerPassesThemOn) {
    LinuxGuest guest;
    guest.initramfs_with_l2 = "/with-l2";
    const PeerGuest peer{"/kernel", "/initramfs", "quiet"};
    const auto runs = bench_runs(guest, peer, true, std::chrono::seconds{1});
    const auto command_line = [&](std::string_view name) {
        const auto found =
            std::ranges::find_if(runs, [&](const BenchRun& each) { return each.run.name == name; });
        EXPECT_NE(found, runs.end());
        return found->run.request.plan.guest_command_line;
    };
    EXPECT_NE(command_line("KVM, vpid=0").find(" l1.flatback.vpid=0"), std::string::npos);
    EXPECT_NE(command_line("KVM, ept=0").find(" l1.flatback.ept=0"), std::string::npos);
    EXPECT_NE(command_line("KVM").find(" l1.l2.lat_ctx.records=lat_ctx.l2"), std::string::npos);
    EXPECT_NE(command_line("Flatback, ept=0").find(" flatback.ept=0"), std::string::npos);
    EXPECT_EQ(command_line("Flatback mapped").find("ept=0"), std::string::npos);
    // Linux takes no command line that is longer.
    for (const BenchRun& each : runs) EXPECT_LT(each.run.request.plan.guest_command_line.size(), 1000U);
}

}  // namespace
}  // namespace flatback::tools
