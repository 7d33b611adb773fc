#include "tools/emulator/marked_trace.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace flatback::tools::marked_trace_test {
namespace {

constexpr std::string_view instruction =
    "(0).[161000000] [0x00003de11055] 0008:ffffffff80211055 (main+5): nop ; 90\n";
constexpr std::string_view access = "[CPU0 RD]: LIN 0x1 PHY 0x1 (len=1, WB): 0x00\n";
constexpr std::string_view mark = "(0) Magic breakpoint\nNext at t=700\n";

std::string text_in(const std::filesystem::path& path) {
    std::ifstream file{path, std::ios::binary};
    return {std::istreambuf_iterator<char>{file}, {}};
}

TEST(MarkedTrace, IsWhatStandsBetweenTwoMarks) {
    const auto path = std::filesystem::path{testing::TempDir()} / "marked-trace.txt";
    auto trace = MarkedTrace::create(path);
    ASSERT_TRUE(trace);
    trace->know_symbols("l1.symbols");
    const auto hear = [&trace](std::string_view bytes) { return trace->hear(bytes); };
    EXPECT_EQ(hear("Next at t=0\n"), "");  // before anything
    EXPECT_EQ(hear(instruction), "");      // the one where it stopped: no mark has been met
    EXPECT_EQ(hear(mark.substr(0, 9)), "");
    EXPECT_EQ(hear(mark.substr(9)), "ldsym global \"l1.symbols\"\ntrace on\ntrace-mem on\nc\n");
    EXPECT_EQ(hear("Tracing enabled for cpu0\n"), "");  // the debugger's own words
    EXPECT_EQ(hear(instruction), "");
    EXPECT_EQ(hear(access), "");
    EXPECT_EQ(hear(mark), "trace off\ntrace-mem off\nc\n");
    EXPECT_EQ(hear(access), "");
    EXPECT_EQ(hear(mark), "trace on\ntrace-mem on\nc\n");
    EXPECT_EQ(hear(access), "");
    EXPECT_EQ(trace->lines(), 3U);
    EXPECT_FALSE(trace->is_cut());
    ASSERT_TRUE(trace->finish());
    EXPECT_EQ(text_in(path), std::string{instruction} + std::string{access} + std::string{access});
}

TEST(MarkedTrace, AnotherStopThanAMarksIsNotItsToAnswer) {
    const auto path = std::filesystem::path{testing::TempDir()} / "marked-trace-stops.txt";
    auto trace = MarkedTrace::create(path);
    ASSERT_TRUE(trace);
    EXPECT_EQ(trace->hear(mark), "trace on\ntrace-mem on\nc\n");
    // The run's end: an examination, which somebody else has asked for.
    EXPECT_EQ(trace->hear("Next at t=900\n"), "");
    EXPECT_EQ(trace->lines(), 0U);
}

TEST(MarkedTrace, WhatCannotBeWrittenIsSaidBeforeTheRun) {
    EXPECT_EQ(MarkedTrace::create("/nowhere/trace.txt").error().status, ExitStatus::output_file);
}

}  // namespace
}  // namespace flatback::tools::marked_trace_test
