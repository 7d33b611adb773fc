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
    EXPECT_EQ(watcher.hear("Next at t=0\n"), "");
    EXPECT_EQ(watcher.hear("(0) Magic break"), "");
    EXPECT_EQ(watcher.hear("point\nNext at t=7\n"), "trace on\ntrace-mem on\nsb 5000\nc\n");
    EXPECT_EQ(watcher.hear(instruction), "");
    EXPECT_EQ(watcher.hear("(0) Magic breakpoint\n"), "c\n");  // another mark within the window
    EXPECT_EQ(watcher.hear("(0) Caught time breakpoint\n"), "trace off\ntrace-mem off\nc\n");
    EXPECT_EQ(watcher.hear(instruction), "");  // not of a window
    EXPECT_EQ(watcher.hear("(0) Magic breakpoint\n"), "trace on\ntrace-mem on\nsb 5000\nc\n");
    EXPECT_EQ(watcher.hear(instruction), "");
    EXPECT_EQ(watcher.hear("(0) Caught time breakpoint\n"), "trace off\ntrace-mem off\nc\n");
    EXPECT_EQ(watcher.hear("(0) Magic breakpoint\n"), "c\n");  // there were two windows
    EXPECT_EQ(watcher.counts().instructions, 2U);
}

TEST(WatchReport, MissesAreOfAnEntryOfL2) {
    WatchedMode mode{"mapped", {}, {"a line"}, {}};
    mode.counts.stale = 1;
    mode.counts.windows = 2;
    mode.counts.instructions = 1000;
    mode.counts.of(watch::Level::l2).entries = 4;
    mode.counts.of(watch::Level::l2).tlb.misses = 6;
    mode.counts.of(watch::Level::l1).tlb.misses = 2;
    mode.counts.of(watch::Level::l1).tlb.walk_references = 10;
    const std::vector modes{mode, WatchedMode{"off", {}, {}, {}}};
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
