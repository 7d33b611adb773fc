#include "tools/trace/trace_file.hpp"

#include <gtest/gtest.h>

namespace flatback::tools::trace_file_test {
namespace {

Trace sample() {
    return {.mode = "mapped",
            .capacity = 8,
            .written = 20,
            .tsc_khz = 100'000,
            .events = {{1, 0x1234, 0, ~std::uint64_t{0}}, {2, 0, 5, 0}, {3, 6, 7, 8}}};
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
}

std::string error_of(std::string_view text) {
    const auto trace = parse_trace(text);
    if (trace) return "accepted";
    EXPECT_EQ(trace.error().status, ExitStatus::input_file);
    EXPECT_EQ(trace.error().message.find('\n'), std::string::npos);
    return trace.error().message;
}

TEST(TraceFile, AKeptTraceComesBack) {
    const auto trace = parse_trace(format_trace(sample()));
    ASSERT_TRUE(trace) << trace.error().message;
    EXPECT_EQ(trace->mode, "mapped");
    EXPECT_EQ(trace->capacity, 8U);
    EXPECT_EQ(trace->written, 20U);
    EXPECT_EQ(trace->tsc_khz, 100'000U);
    EXPECT_EQ(trace->events, sample().events);
}

TEST(TraceFile, StandsBetweenOtherOutputAndSurvivesASerialLine) {
    std::string text = "Bochs said\n<bochs:1> " + format_trace(sample()) + "and more\n";
    for (std::size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 2) text.insert(at, "\r");
    const auto trace = parse_trace(text);
    ASSERT_TRUE(trace) << trace.error().message;
    EXPECT_EQ(trace->events.size(), 3U);
}

TEST(TraceFile, EveryCutIsRefused) {
    const std::string text = format_trace(sample());
    for (std::size_t size = 0; size < text.size(); ++size)
        EXPECT_FALSE(parse_trace(text.substr(0, size))) << "cut to " << size;
    EXPECT_NE(error_of(text.substr(0, text.rfind("FLATBACK"))).find("cut off after 3 of 3"),
              std::string::npos);
}

TEST(TraceFile, EveryChangedDigitOfAnEventIsRefused) {
    const std::string text = format_trace(sample());
    const std::size_t first = text.find('\n') + 1;
    const std::size_t last = text.rfind("FLATBACK-TRACE end");
    for (std::size_t at = first; at < last; ++at) {
        for (const char to : {'9', 'z', ' ', '\n', '\0', '\xff'}) {
            if (text[at] == to) continue;
            std::string damaged = text;
            damaged[at] = to;
            EXPECT_FALSE(parse_trace(damaged)) << at;
        }
    }
}

TEST(TraceFile, SaysWhatIsWrong) {
    const std::string text = format_trace(sample());
    EXPECT_NE(error_of("").find("no trace"), std::string::npos);
    EXPECT_NE(error_of(std::string(1000, '\0')).find("no trace"), std::string::npos);
    EXPECT_NE(error_of(replaced(text, "version=1", "version=2")).find("version 2"), std::string::npos);
    EXPECT_NE(error_of(replaced(text, " version=1", "")).find("version unknown"), std::string::npos);
    EXPECT_NE(error_of(replaced(text, "mode=mapped", "mode=best")).find("'best'"), std::string::npos);
    EXPECT_NE(error_of(replaced(text, "events=3", "events=three")).find("no number"), std::string::npos);
    EXPECT_NE(error_of(replaced(text, "events=3", "events=9")).find("sizes"), std::string::npos);
    EXPECT_NE(error_of(replaced(text, "capacity=8 written=20 events=3",
                                "capacity=99999999999 written=99999999999 events=99999999999"))
                  .find("sizes"),
              std::string::npos);
    EXPECT_NE(error_of(replaced(text, "written=20", "written=2")).find("sizes"), std::string::npos);
    EXPECT_NE(error_of(replaced(text, "events=3", "events=2")).find("more events"), std::string::npos);
    EXPECT_NE(error_of(replaced(text, "events=3", "events=3 colour=1")).find("colour"), std::string::npos);
    EXPECT_NE(error_of(replaced(text, "tsc_khz=100000", "tsc_khz=0")).find("0 kHz"), std::string::npos);
    EXPECT_NE(error_of(replaced(text, " 3 6 7 8", " 3 6 7 8 9")).find("too many words"), std::string::npos);
    EXPECT_NE(error_of(replaced(text, " 3 6 7 8", " 3 6 7")).find("event 3 of 3"), std::string::npos);
    EXPECT_NE(error_of(replaced(text, " 3 6 7 8", " 3 6 7 9")).find("check"), std::string::npos);
    EXPECT_NE(error_of(replaced(text, " 3 6 7 8", " 3 6 7 11112222333344445")).find("damaged"),
              std::string::npos);
}

trace::Event on(unsigned processor, std::uint64_t tick) {
    return {tick, trace::make_what(trace::Kind::entry, processor, trace::Level::l0, trace::Level::l1, 0, 0),
            0, 0};
}
Trace of(std::vector<trace::Event> events) {
    return {.mode = "mapped", .capacity = 8, .written = 20, .tsc_khz = {}, .events = std::move(events)};
}

TEST(TraceFile, TracesOfSeveralProcessorsAreOneByTheirTimes) {
    const std::string text = "processor 1\n" +
                             format_trace(of({on(1, 11), on(1, 14), on(1, 20), on(1, 22)})) +
                             "processor 0\r\n" + format_trace(of({on(0, 10), on(0, 15), on(0, 20)})) +
                             format_trace(of({})) + format_trace(of({on(2, 21)})) + "the end\n";
    const auto trace = parse_trace(text);
    ASSERT_TRUE(trace) << trace.error().message;
    EXPECT_EQ(trace->events, (std::vector{on(0, 10), on(1, 11), on(1, 14), on(0, 15), on(1, 20), on(0, 20),
                                          on(2, 21), on(1, 22)}));
    EXPECT_EQ(trace->capacity, 32U);
    EXPECT_EQ(trace->written, 80U);
}

TEST(TraceFile, AProcessorsOwnOrderStands) {
    // L1 has put its counter back.
    const auto trace =
        parse_trace(format_trace(of({on(0, 30), on(0, 5), on(0, 40)})) + format_trace(of({on(1, 6)})));
    ASSERT_TRUE(trace) << trace.error().message;
    EXPECT_EQ(trace->events, (std::vector{on(1, 6), on(0, 30), on(0, 5), on(0, 40)}));
}

TEST(TraceFile, ASecondTraceOfTheSameProcessorIsAnother) {
    const auto trace = parse_trace(format_trace(of({on(0, 10)})) + format_trace(of({on(1, 9), on(0, 11)})));
    ASSERT_TRUE(trace) << trace.error().message;
    EXPECT_EQ(trace->events, (std::vector{on(0, 10)}));
}

TEST(TraceFile, WhatIsWrongWithAnotherProcessorsIsSaid) {
    const std::string first = format_trace(of({on(0, 10)}));
    const std::string second = format_trace(of({on(1, 11)}));
    EXPECT_NE(error_of(first + second.substr(0, second.size() - 5)).find("cut off"), std::string::npos);
    EXPECT_NE(error_of(first + replaced(second, "mode=mapped", "mode=off")).find("another mode"),
              std::string::npos);
    EXPECT_NE(error_of(first + replaced(second, "version=1", "version=9")).find("line 4"), std::string::npos);
}

}  // namespace
}  // namespace flatback::tools::trace_file_test
