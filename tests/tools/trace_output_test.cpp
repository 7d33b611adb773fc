#include "tools/trace/trace_output.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tools/command/trace_command.hpp"

namespace flatback::tools::trace_output_test {
namespace {

using nlohmann::json;
using trace::Event;
using trace::Kind;
using trace::Level;

Event exit_of(std::uint64_t tick, Level level, vmx::ExitReason reason, unsigned cpu = 0) {
    return {tick, trace::make_what(Kind::exit, cpu, level, Level::l0, static_cast<std::uint16_t>(reason), 2),
            level == Level::l2 ? trace::make_nested(1, 0x5000) : 0, 0x1234};
}
Event entry_of(std::uint64_t tick, Level level, unsigned cpu = 0) {
    return {tick, trace::make_what(Kind::entry, cpu, Level::l0, level, 0, 2),
            level == Level::l2 ? trace::make_nested(1, 0x5000) : 0, 0};
}
Event flush_of(std::uint64_t tick, tag::FlushCause cause) {
    return {tick, trace::make_what(Kind::flush_tag, 0, Level::l0, Level::l0, trace::flush_code(1, cause), 2),
            1, 0};
}

// One reflected CPUID of an L2 that has to be flushed for, and one EPT violation that L0 handles.
std::vector<Event> sample() {
    return {exit_of(1000, Level::l1, vmx::ExitReason::vmresume),
            flush_of(1300, tag::FlushCause::tag_handed_out),
            entry_of(1400, Level::l2),
            exit_of(1500, Level::l2, vmx::ExitReason::cpuid),
            entry_of(1900, Level::l1),
            exit_of(2000, Level::l1, vmx::ExitReason::vmresume),
            entry_of(2300, Level::l2),
            exit_of(2350, Level::l2, vmx::ExitReason::ept_violation),
            entry_of(2450, Level::l2),
            exit_of(2500, Level::l2, vmx::ExitReason::hlt)};
}

const TraceFacts facts{.mode = "single", .written = 10, .tsc_khz = 100'000};

TEST(TraceView, WhoHandledAnExitIsWhatWasEnteredNext) {
    const auto events = view_events(sample());
    EXPECT_EQ(events[0].handled_by, "L0");
    EXPECT_EQ(events[3].handled_by, "L1");
    EXPECT_EQ(events[7].handled_by, "L0");
    EXPECT_EQ(events[9].handled_by, "");
    EXPECT_EQ(events[3].reason, "CPUID");
    EXPECT_EQ(events[3].vmcs12, 0x5000U);
}

TEST(TraceView, AnotherProcessorsEntryTellsNothing) {
    const std::vector<Event> events{exit_of(1, Level::l2, vmx::ExitReason::cpuid, 0),
                                    entry_of(2, Level::l2, 1), entry_of(3, Level::l1, 0)};
    EXPECT_EQ(view_events(events)[0].handled_by, "L1");
}

TEST(TraceView, NumbersWithoutANameAreNamedByNumber) {
    const std::vector<Event> events{
        {1, trace::make_what(Kind::exit, 0, Level{9}, Level::l0, 777, 0), 0, 0},
        {2, trace::make_what(Kind::flush_ept, 0, Level::l0, Level::l0, 0xfa09, 0), 0, 0},
        {3, 0xff, 0, 0}};
    const auto view = view_events(events);
    EXPECT_EQ(view[0].reason, "reason 777");
    EXPECT_EQ(view[0].from, "level 9");
    EXPECT_EQ(view[1].flush->type_name, "type 9");
    EXPECT_EQ(view[1].flush->why, "cause 250");
    EXPECT_EQ(view[2].kind, "kind 255");
    // None of it upsets an output.
    EXPECT_TRUE(json::accept(perfetto_json(view, facts)));
    EXPECT_TRUE(json::accept(trace_json(view, facts)));
    EXPECT_FALSE(render_trace(view, 0).empty());
}

TEST(TraceJson, HasWhatTheSchemaSays) {
    const auto document = json::parse(trace_json(view_events(sample()), facts));
    EXPECT_EQ(document["ticks_per_us"], 100.0);
    EXPECT_EQ(document["mode"], "single");
    ASSERT_EQ(document["events"].size(), 10U);
    const json& flush = document["events"][1];
    EXPECT_EQ(flush["kind"], "flush");
    EXPECT_EQ(flush["flush"]["instruction"], "INVVPID");
    EXPECT_EQ(flush["flush"]["type"], 1);
    EXPECT_EQ(flush["flush"]["target"]["vpid"], 2);
    EXPECT_EQ(flush["flush"]["why"], "tag handed out");
    EXPECT_EQ(document["events"][3]["handled_by"], "L1");
    EXPECT_TRUE(document["events"][9]["handled_by"].is_null());
    TraceFacts without_rate = facts;
    without_rate.tsc_khz.reset();
    EXPECT_TRUE(json::parse(trace_json({}, without_rate))["ticks_per_us"].is_null());
}

TEST(PerfettoJson, SlicesCoverTheTimeOfEachLevelAndFlushesAreInstants) {
    const auto document = json::parse(perfetto_json(view_events(sample()), facts));
    double l0 = 0;
    double all = 0;
    unsigned slices = 0;
    unsigned instants = 0;
    for (const json& event : document["traceEvents"]) {
        const std::string phase = event["ph"];
        if (phase == "X") {
            ++slices;
            EXPECT_GE(event["dur"].get<double>(), 0);
            all += event["dur"].get<double>();
            if (event["tid"] == 0) l0 += event["dur"].get<double>();
        } else if (phase == "i") {
            ++instants;
            EXPECT_EQ(event["args"]["why"], "tag handed out");
            EXPECT_DOUBLE_EQ(event["ts"].get<double>(), 3.0);
        } else {
            EXPECT_EQ(phase, "M");
        }
    }
    EXPECT_EQ(slices, 8U);  // nine switches
    EXPECT_EQ(instants, 1U);
    // 1000:2500 in ticks of a hundredth of a microsecond; L0 ran in 400 + 400 + 300 + 100 of them.
    EXPECT_DOUBLE_EQ(all, 15.0);
    EXPECT_DOUBLE_EQ(l0, 12.0);
}

TEST(PerfettoJson, TimeThatGoesBackMakesNoNegativeSlice) {
    const std::vector<Event> events{entry_of(1000, Level::l1), exit_of(10, Level::l1, vmx::ExitReason::cpuid),
                                    entry_of(20, Level::l1)};
    const auto document = json::parse(perfetto_json(view_events(events), facts));
    for (const json& event : document["traceEvents"]) {
        if (event["ph"] == "X") {
            EXPECT_GE(event["dur"].get<double>(), 0);
        }
    }
}

TEST(TraceSummary, CountsByReasonHandlerAndCause) {
    const std::string text = render_trace_summary(view_events(sample()), facts);
    EXPECT_NE(text.find("3 entries into L2"), std::string::npos) << text;
    EXPECT_NE(text.find("tag handed out"), std::string::npos) << text;
    EXPECT_NE(text.find("reflected to L1"), std::string::npos) << text;
}

TEST(TraceWindow, IsStartColonEnd) {
    EXPECT_EQ(parse_window("5:9"), (std::pair<std::uint64_t, std::uint64_t>{5, 9}));
    for (const char* wrong : {"", ":", "5", "5:", ":9", "9:5", "5:5", "a:9", "5:9x", "-1:4",
                              "99999999999999999999:999999999999999999999"})
        EXPECT_FALSE(parse_window(wrong)) << wrong;
}

}  // namespace
}  // namespace flatback::tools::trace_output_test
