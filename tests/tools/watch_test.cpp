// `flatback watch`: what the emulator's debugger is answered, and what is written of it.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "machine/geometric/geometry.hpp"
#include "tools/watch/watch_report.hpp"
#include "tools/watch/window_watcher.hpp"

namespace flatback::tools {
namespace {

const machine::TlbGeometry* skylake() {
    return machine::find_geometry("skylake-x");
}

constexpr std::string_view instruction =
    "(0).[161000000] [0x00003de11055] 0008:ffffffff80211055 (unk. ctxt): nop ; 90\n";

TEST(WindowWatcher, AWindowIsFromAMarkToItsTime) {
    WindowWatcher watcher{{.instructions = 5000, .windows = 2, .geometry = skylake()}};
    watcher.know_vmcs01(0x1000);
    EXPECT_EQ(watcher.hear("Next at t=0\n"), "");  // before anything
    EXPECT_EQ(watcher.hear("(0) Magic break"), "");
    EXPECT_EQ(watcher.hear("point\nNext at t=7\n"), "trace on\ntrace-mem on\ns 5000\n");
    EXPECT_EQ(watcher.hear(instruction), "");
    // Another mark within the window: on for what is left of it.
    EXPECT_EQ(watcher.hear("(0) Magic breakpoint\nNext at t=1007\n"), "s 4000\n");
    EXPECT_EQ(watcher.hear("Next at t=5007\n"), "trace off\ntrace-mem off\nc\n");
    EXPECT_EQ(watcher.hear(instruction), "");  // not of a window
    EXPECT_EQ(watcher.hear("(0) Magic breakpoint\nNext at t=6000\n"), "trace on\ntrace-mem on\ns 5000\n");
    EXPECT_EQ(watcher.hear(instruction), "");
    EXPECT_EQ(watcher.hear("Next at t=11000\n"), "trace off\ntrace-mem off\nc\n");
    EXPECT_EQ(watcher.hear("(0) Magic breakpoint\nNext at t=12000\n"), "c\n");  // there were two windows
    EXPECT_EQ(watcher.counts().instructions, 2U);
}

// 100 ticks of a window.
watch::WindowCounts window(std::uint64_t l2_entries, std::uint64_t l2_misses, std::uint64_t l0_misses,
                           std::uint64_t l1_misses, std::uint64_t l1_references) {
    watch::WindowCounts counts{.ticks = 100};
    counts.levels[0].tlb.misses = l0_misses;
    counts.levels[1].tlb.misses = l1_misses;
    counts.levels[1].tlb.walk_references = l1_references;
    counts.levels[2].entries = l2_entries;
    counts.levels[2].tlb.misses = l2_misses;
    return counts;
}

TEST(PhaseEstimate, AWindowStandsForItsPart) {
    watch::PhaseEstimate phase;
    phase.add(window(1, 90, 0, 0, 0), 1000);  // 10 entries, 900 misses
    phase.add(window(9, 3, 1, 1, 2), 1000);   // 90 entries, 50 misses
    EXPECT_DOUBLE_EQ(*misses_per_l2_entry(phase, watch::Level::l2), 9.3);
    EXPECT_DOUBLE_EQ(*misses_per_l2_entry(phase), 9.5);
    EXPECT_DOUBLE_EQ(*walk_references_per_l2_entry(phase), 0.2);
    EXPECT_EQ(phase.ticks(), 2000U);
    phase.add({}, 5000);  // nothing was counted: it stands for nothing
    EXPECT_DOUBLE_EQ(*misses_per_l2_entry(phase), 9.5);
    EXPECT_EQ(phase.ticks(), 2000U);
    EXPECT_EQ(phase.empty_windows(), 1U);
}

TEST(WindowWatcher, AMarkEndsAPartAndItsWindow) {
    WindowWatcher watcher{{.instructions = 5000, .windows = 2, .warming = 10, .geometry = skylake()}};
    watcher.know_vmcs01(0x1000);
    const std::string begin = "trace on\ntrace-mem on\ns 5000\n";
    EXPECT_EQ(watcher.hear("(0) Magic breakpoint\nNext at t=100\n"), begin);
    EXPECT_EQ(watcher.hear("Next at t=5100\n"), "trace off\ntrace-mem off\nc\n");
    EXPECT_EQ(watcher.hear("(0) Magic breakpoint\nNext at t=9000\n"), begin);
    // Within the second window; there is no third.
    EXPECT_EQ(watcher.hear("(0) Magic breakpoint\nNext at t=9500\n"), "trace off\ntrace-mem off\nc\n");
    EXPECT_EQ(watcher.phase().empty_windows(), 2U);
}

TEST(WatchReport, MissesAreOfAnEntryOfL2) {
    WatchedMode mode{"mapped", {}, {}, {"a line"}, {}};
    mode.counts.stale = 1;
    mode.counts.windows = 2;
    mode.counts.instructions = 1000;
    mode.counts.of(watch::Level::l2).entries = 4;
    mode.phase.add(window(4, 6, 0, 2, 10));
    const std::vector modes{mode, WatchedMode{"off", {}, {}, {}, {}}};
    const auto json = nlohmann::json::parse(watch_json(modes));
    const auto& mapped = json["modes"]["mapped"];
    EXPECT_EQ(mapped["stale"], 1);
    EXPECT_EQ(mapped["windows"], 2);
    EXPECT_EQ(mapped["instructions"], 1000);
    EXPECT_EQ(mapped["l2_entries"], 4);
    EXPECT_EQ(mapped["misses_per_l2_entry"]["l0"], 0.0);
    EXPECT_EQ(mapped["misses_per_l2_entry"]["l1"], 0.5);
    EXPECT_EQ(mapped["misses_per_l2_entry"]["l2"], 1.5);
    EXPECT_EQ(mapped["walk_references_per_l2_entry"], 2.5);
    EXPECT_TRUE(json["modes"]["off"]["misses_per_l2_entry"]["l2"].is_null());
    const std::string table = watch_table(modes);
    EXPECT_NE(table.find("mapped: stale: a line"), std::string::npos);
    EXPECT_NE(table.find(" 2.0 "), std::string::npos);
}

}  // namespace
}  // namespace flatback::tools
