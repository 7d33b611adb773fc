// `flatback watch`: what the emulator's debugger is answered, and what is written of it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "machine/geometric/geometry.hpp"
#include "tools/watch/flush_records.hpp"
#include "tools/watch/watch_report.hpp"
#include "tools/watch/window_watcher.hpp"

namespace flatback::tools::watch_test {
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
    counts.levels[2].mov_to_cr3 = 2;
    return counts;
}

TEST(PhaseEstimate, AWindowStandsForItsPart) {
    watch::PhaseEstimate phase;
    phase.add({1000, std::nullopt, window(1, 90, 0, 0, 0)});  // 10 entries, 900 misses
    phase.add({1000, std::nullopt, window(9, 3, 1, 1, 2)});   // 90 entries, 50 misses
    EXPECT_DOUBLE_EQ(*misses_per_l2_entry(phase, watch::Level::l2), 9.3);
    EXPECT_DOUBLE_EQ(*misses_per_l2_entry(phase), 9.5);
    EXPECT_DOUBLE_EQ(*walk_references_per_l2_entry(phase), 0.2);
    EXPECT_EQ(phase.ticks(), 2000U);
    phase.add({5000, std::nullopt, {}});  // nothing was counted: it stands for nothing
    EXPECT_DOUBLE_EQ(*misses_per_l2_entry(phase), 9.5);
    EXPECT_EQ(phase.ticks(), 2000U);
    EXPECT_EQ(phase.empty_windows(), 1U);
}

// Window by window: levels 0 and 1 by entries, level 2 by time.
TEST(WatchReport, WhereAPartsEntriesAreKnownTheyCount) {
    watch::PhaseEstimate phase;
    // A window with many entries says by itself what each costs: 2 of L0, 1 of L1. It is a tenth of its part.
    phase.add({1000, 400, window(40, 8, 80, 40, 3)});
    EXPECT_DOUBLE_EQ(phase.of(watch::Level::l2).entries, 400);
    EXPECT_DOUBLE_EQ(phase.of(watch::Level::l2).misses, 80);
    EXPECT_DOUBLE_EQ(phase.of(watch::Level::l2).mov_to_cr3, 20);
    EXPECT_DOUBLE_EQ(phase.of(watch::Level::l0).misses, 800);
    EXPECT_DOUBLE_EQ(phase.of(watch::Level::l1).misses, 400);
    // Two with few say it together: 3 of L0 an entry, of six entries.
    phase.add({1000, 10, window(0, 5, 0, 0, 0)});
    phase.add({1000, 20, window(6, 1, 18, 0, 0)});
    EXPECT_DOUBLE_EQ(phase.of(watch::Level::l2).entries, 430);
    EXPECT_DOUBLE_EQ(phase.of(watch::Level::l2).misses, 80 + 50 + 10);
    EXPECT_DOUBLE_EQ(phase.of(watch::Level::l0).misses, 800 + 3 * 30);
    EXPECT_DOUBLE_EQ(phase.of(watch::Level::l1).misses, 400);
}

TEST(WindowWatcher, APartKnowsItsEntriesByL0sCounter) {
    WindowWatcher watcher{{.instructions = 40, .windows = 2, .warming = 4, .geometry = skylake()}};
    watcher.know_exit_counter(0x1234'5678);
    watcher.know_vmcs01(0x3df1b000);
    const std::string ask = "xp /1gx 0x12345678\n";
    EXPECT_EQ(watcher.hear("(0) Magic breakpoint\nNext at t=161000000\n"), ask);
    EXPECT_EQ(watcher.hear("[bochs]:\n0x0000000012345678 <bogus+       0>:\t0x0000000000000064\n"),
              "trace on\ntrace-mem on\ns 10\n");
    std::ifstream file(std::string{FLATBACK_SOURCE_DIRECTORY} + "/tests/watch/data/l1_and_l2.txt");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    EXPECT_EQ(watcher.hear(text), "");
    EXPECT_EQ(watcher.hear("(0) Magic breakpoint\nNext at t=161002000\n"),
              "trace off\ntrace-mem off\n" + ask);
    EXPECT_EQ(watcher.hear("0x0000000012345678 <bogus+       0>:\t0x0000000000000069\n"),
              "trace on\ntrace-mem on\ns 10\n");
    ASSERT_EQ(watcher.phase().parts().size(), 1U);
    EXPECT_EQ(watcher.phase().parts().front().l2_entries, 5U);
    EXPECT_EQ(watcher.phase().parts().front().ticks, 2000U);
}

TEST(WindowWatcher, AMarkEndsAPartAndItsWindow) {
    WindowWatcher watcher{{.instructions = 5000, .windows = 2, .warming = 10, .geometry = skylake()}};
    watcher.know_vmcs01(0x1000);
    // A quarter at a time, for as long as there is too little behind the warming up.
    const std::string begin = "trace on\ntrace-mem on\ns 1250\n";
    EXPECT_EQ(watcher.hear("(0) Magic breakpoint\nNext at t=100\n"), begin);
    for (unsigned piece = 1; piece < 16; ++piece)
        EXPECT_EQ(watcher.hear(fmt::format("Next at t={}\n", 100 + 1250 * piece)), "s 1250\n") << piece;
    EXPECT_EQ(watcher.hear("Next at t=20100\n"), "trace off\ntrace-mem off\nc\n");
    EXPECT_EQ(watcher.hear("(0) Magic breakpoint\nNext at t=29000\n"), begin);
    // Within the second window; there is no third.
    EXPECT_EQ(watcher.hear("(0) Magic breakpoint\nNext at t=29500\n"), "trace off\ntrace-mem off\nc\n");
    EXPECT_EQ(watcher.phase().empty_windows(), 2U);
}

TEST(WindowWatcher, AWindowWithEnoughBehindItsWarmingUpIsOver) {
    WindowWatcher watcher{{.instructions = 40, .windows = 1, .warming = 10, .geometry = skylake()}};
    watcher.know_vmcs01(0x3df1b000);
    EXPECT_EQ(watcher.hear("(0) Magic breakpoint\nNext at t=161000000\n"), "trace on\ntrace-mem on\ns 10\n");
    EXPECT_EQ(watcher.hear("Next at t=161000010\n"), "s 10\n");
    // 52 instructions; it is known who runs from the fifth on, and ten are for warming up: 39 are left.
    std::ifstream file(std::string{FLATBACK_SOURCE_DIRECTORY} + "/tests/watch/data/l1_and_l2.txt");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    EXPECT_EQ(watcher.hear(text), "");
    EXPECT_EQ(watcher.hear("Next at t=161000020\n"), "s 10\n");
    EXPECT_EQ(
        watcher.hear("(0).[161000700] [0x00003de07f50] 0008:ffffffff80207f50 (unk. ctxt): push r9 ; 4151\n"),
        "");
    EXPECT_EQ(watcher.hear("Next at t=161000030\n"), "trace off\ntrace-mem off\nc\n");
    EXPECT_EQ(watcher.phase().empty_windows(), 0U);
}

TEST(WatchReport, MissesAreOfAnEntryOfL2) {
    WatchedMode mode{"mapped", {}, {}, {"a line"}, {}, {}, {}};
    mode.counts.stale = 1;
    mode.counts.windows = 2;
    mode.counts.instructions = 1000;
    mode.counts.of(watch::Level::l2).entries = 4;
    mode.phase.add(window(4, 6, 0, 2, 10));
    const std::vector modes{mode, WatchedMode{"off", {}, {}, {}, {}, {}, {}}};
    const auto json = nlohmann::json::parse(watch_json(modes, "linux", "skylake-x"));
    EXPECT_EQ(json["guest"], "linux");
    EXPECT_EQ(json["tlb"], "skylake-x");
    const auto& mapped = json["modes"]["mapped"];
    EXPECT_EQ(mapped["stale"], 1);
    EXPECT_EQ(mapped["windows"], 2);
    EXPECT_EQ(mapped["instructions"], 1000);
    EXPECT_EQ(mapped["l2_entries"], 4);
    EXPECT_EQ(mapped["misses_per_l2_entry"]["l0"], 0.0);
    EXPECT_EQ(mapped["misses_per_l2_entry"]["l1"], 0.5);
    EXPECT_EQ(mapped["misses_per_l2_entry"]["l2"], 1.5);
    EXPECT_EQ(mapped["walk_references_per_l2_entry"], 2.5);
    EXPECT_EQ(mapped["misses_per_l2_context_switch"]["l2"], 3.0);
    EXPECT_EQ(mapped["phase"]["l2_context_switches"], 2.0);
    EXPECT_TRUE(json["modes"]["off"]["misses_per_l2_entry"]["l2"].is_null());
    EXPECT_TRUE(json["modes"]["off"]["misses_per_l2_context_switch"]["l2"].is_null());
    const std::string table = watch_table(modes);
    EXPECT_NE(table.find("mapped: stale: a line"), std::string::npos);
    EXPECT_NE(table.find(" 2.0 "), std::string::npos);
}

TEST(WatchReport, StaleAccessesAreToldByTheCheckTheyWereMadeFor) {
    WatchedMode mode{"mapped", {}, {}, {}, {}, {}, {{"first", true, 0}, {"second", false, 3}}};
    const std::vector modes{mode};
    const auto checks =
        nlohmann::json::parse(watch_json(modes, "probes", "skylake-x"))["modes"]["mapped"]["checks"];
    ASSERT_EQ(checks.size(), 2U);
    EXPECT_EQ(checks[0]["name"], "first");
    EXPECT_EQ(checks[0]["passed"], true);
    EXPECT_EQ(checks[0]["stale"], 0);
    EXPECT_EQ(checks[1]["passed"], false);
    EXPECT_EQ(checks[1]["stale"], 3);
    const std::string table = watch_table(modes);
    EXPECT_NE(table.find("mapped: second: 3 stale accesses\n"), std::string::npos);
    EXPECT_EQ(table.find("first"), std::string::npos);
}

// L0 records a flush, and executes it or something else.
class Flushes : public testing::Test {
protected:
    void say(const std::string& text) {
        reader_.append(text + "\n", [this](const watch::TraceLine& line) {
            EXPECT_NE(line.kind, watch::TraceLine::Kind::other) << reader_.text();
            if (const auto type = records_.take(line)) types_.push_back(*type);
        });
    }
    void instruction(const char* text) {
        say(fmt::format("(0).[{}] [0x000000200109] 0008:0000000000200109 (unk. ctxt): {} ; 90", ++tick_,
                        text));
    }
    void store(std::uint64_t place, std::uint64_t value) {
        instruction("mov qword ptr ds:[rax], rcx");
        say(fmt::format(
            "[CPU0 WR]: LIN 0xffff800000{0:06x} PHY 0x000000{0:06x} (len=8, WB): 0x{1:08X} 0x{2:08X}", place,
            value >> 32, value & 0xFFFFFFFF));
    }
    // In whatever order the compiler has put the stores, with others between them.
    void record(trace::Kind kind, unsigned type, tag::FlushCause cause, std::uint16_t vpid,
                std::uint64_t operand) {
        const std::uint64_t place = 0x5000 + 32 * events_++;
        const std::uint64_t tsc = tick_;
        store(place + 24, operand);
        store(0x7FF8, 1);
        store(place, tsc);
        store(place + 16, 7);
        store(place + 8, trace::make_what(kind, 0, trace::Level::l0, trace::Level::l0,
                                          trace::flush_code(static_cast<std::uint8_t>(type), cause), vpid));
    }
    void execute(const char* text, std::uint64_t low, std::uint64_t high) {
        instruction(text);
        say(fmt::format(
            "[CPU0 RD]: LIN 0xffff800000006000 PHY 0x000000006000 (len=16, WB): 0x{:08X} 0x{:08X} "
            "0x{:08X} 0x{:08X}",
            high >> 32, high & 0xFFFFFFFF, low >> 32, low & 0xFFFFFFFF));
    }
    void invvpid(std::uint64_t vpid, std::uint64_t address = 0) {
        execute("invvpid rax, dqword ptr ss:[rsp]", vpid, address);
    }

    watch::TraceReader reader_;
    FlushRecords records_;
    std::vector<unsigned> types_;
    std::uint64_t tick_ = 1000;
    std::uint64_t events_ = 0;
};

TEST_F(Flushes, WhatIsRecordedAndExecutedIsAllRight) {
    record(trace::Kind::flush_tag, 1, tag::FlushCause::tag_handed_out, 5, 0);
    invvpid(5);
    record(trace::Kind::flush_tag, 0, tag::FlushCause::l1_invvpid_address, 5, 0x4000);
    invvpid(5, 0x4000);
    record(trace::Kind::flush_tag, 3, tag::FlushCause::l1_invvpid_retaining_globals, 5, 0);
    invvpid(5);
    record(trace::Kind::flush_ept, 1, tag::FlushCause::ept_contexts_stale, 0, 0x501E);
    execute("invept rax, dqword ptr ss:[rsp]", 0x501E, 0);
    instruction("vmresume");
    EXPECT_EQ(types_, (std::vector<unsigned>{1, 0, 3, 1}));
    const FlushCounts& counts = records_.counts();
    EXPECT_EQ(counts.recorded, 4U);
    EXPECT_EQ(counts.not_executed + counts.not_recorded + counts.otherwise, 0U);
    EXPECT_EQ(counts.causes.at("tag handed out"), 1U);
    EXPECT_EQ(counts.causes.at("an EPT context became stale"), 1U);
}

TEST_F(Flushes, WhatIsRecordedAndLeftOutIsTold) {
    record(trace::Kind::flush_tag, 1, tag::FlushCause::tag_handed_out, 5, 0);
    instruction("vmresume");
    record(trace::Kind::flush_tag, 1, tag::FlushCause::cpu_changed, 6, 0);
    record(trace::Kind::flush_tag, 1, tag::FlushCause::cpu_changed, 7, 0);
    invvpid(7);
    EXPECT_EQ(records_.counts().not_executed, 2U);
    EXPECT_EQ(records_.counts().otherwise, 0U);
    EXPECT_NE(records_.counts().examples.at(0).find("VPID 5"), std::string::npos);
}

TEST_F(Flushes, AnEntryAloneEndsTheWaitForAFlush) {
    record(trace::Kind::flush_tag, 1, tag::FlushCause::tag_handed_out, 5, 0);
    EXPECT_EQ(records_.counts().not_executed, 0U);
    instruction("vmlaunch");
    EXPECT_EQ(records_.counts().not_executed, 1U);
    // Too late: it is of nothing that was recorded.
    invvpid(5);
    EXPECT_EQ(records_.counts().not_executed, 1U);
    EXPECT_EQ(records_.counts().not_recorded, 1U);
}

TEST_F(Flushes, WhatIsExecutedOtherwiseIsTold) {
    record(trace::Kind::flush_tag, 1, tag::FlushCause::tag_handed_out, 5, 0);
    invvpid(6);
    record(trace::Kind::flush_tag, 0, tag::FlushCause::l1_invvpid_address, 5, 0x4000);
    invvpid(5, 0x5000);
    record(trace::Kind::flush_ept, 1, tag::FlushCause::ept_contexts_stale, 0, 0x501E);
    execute("invept rax, dqword ptr ss:[rsp]", 0x601E, 0);
    EXPECT_EQ(records_.counts().otherwise, 3U);
}

TEST_F(Flushes, WhatIsExecutedWithoutARecordIsTold) {
    invvpid(6);
    instruction("invvpid rax, dqword ptr ss:[rsp]");  // a guest's: it exits before it reads its descriptor
    instruction("nop");
    EXPECT_EQ(records_.counts().not_recorded, 1U);
}

TEST_F(Flushes, OtherStoresAreNoRecords) {
    for (unsigned word = 0; word < 4; ++word) store(0x5000 + 8 * word, 0x3);  // no tick in it
    EXPECT_TRUE(types_.empty());
    record(trace::Kind::exit, 18, {}, 5, 0);  // an event, but no flush
    EXPECT_TRUE(types_.empty());
    EXPECT_EQ(records_.counts().recorded, 0U);
    // The window ends in between.
    record(trace::Kind::flush_tag, 1, tag::FlushCause::tag_handed_out, 5, 0);
    records_.end_window();
    instruction("vmresume");
    EXPECT_EQ(records_.counts().not_executed, 0U);
}

TEST(WatchReport, FlushesThatWereNotExecutedAreNoGoodRun) {
    WatchedMode mode{"mapped", {}, {}, {}, {}, FlushCounts{}, {}};
    mode.flushes->recorded = 3;
    mode.flushes->causes["tag handed out"] = 3;
    EXPECT_TRUE(is_good(mode));
    mode.flushes->not_executed = 1;
    EXPECT_FALSE(is_good(mode));
    const std::vector modes{mode};
    const auto json = nlohmann::json::parse(watch_json(modes, "linux", "skylake-x"));
    EXPECT_EQ(json["modes"]["mapped"]["l0_trace"]["flushes"], 3);
    EXPECT_EQ(json["modes"]["mapped"]["l0_trace"]["not_executed"], 1);
    EXPECT_EQ(json["modes"]["mapped"]["l0_trace"]["causes"]["tag handed out"], 3);
    EXPECT_NE(watch_table(modes).find("3 tag handed out"), std::string::npos);
    mode.flushes.reset();
    mode.counts.stale = 1;
    EXPECT_FALSE(is_good(mode));
}

}  // namespace
}  // namespace flatback::tools::watch_test
