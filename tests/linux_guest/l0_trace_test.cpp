#include "guests/linux/l0_trace.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace flatback::guests::l0_trace_test {
namespace {

/// An L0 with a ring of a few places that were all written, some of them twice.
struct FakeL0 {
    bool ours = true;
    std::uint32_t highest_leaf = trace::leaf;
    std::uint32_t version = trace::format_version;
    bool available = true;
    bool recording = true;
    std::uint64_t written = 0;
    std::vector<trace::Event> places{4};
};
FakeL0 l0;

CpuidResult fake_cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
    namespace sub = trace::subleaf;
    const auto low = [](std::uint64_t word) { return static_cast<std::uint32_t>(word); };
    const auto high = [](std::uint64_t word) { return static_cast<std::uint32_t>(word >> 32); };
    if (leaf == 0x4000'0000 && l0.ours) {
        CpuidResult result{l0.highest_leaf, 0, 0, 0};
        std::memcpy(&result.ebx, "Flat", 4);
        std::memcpy(&result.ecx, "back", 4);
        std::memcpy(&result.edx, "Flat", 4);
        return result;
    }
    if (leaf == 0x4000'0001) return {0, 2, 0, 0};
    if (leaf != trace::leaf || !l0.available) return {};
    if (subleaf == sub::format) return {l0.version, 32, static_cast<std::uint32_t>(l0.places.size()), 1};
    if (subleaf == sub::written) return {low(l0.written), 0, 0, high(l0.written)};
    if (subleaf == sub::stop) l0.recording = false;
    if (subleaf == sub::start) l0.recording = true;
    if ((subleaf & sub::event) == 0 || l0.recording) return {};
    const trace::Event& event = l0.places.at((subleaf & ~sub::event) >> 1);
    const std::uint64_t first = (subleaf & 1) == 0 ? event.tsc : event.nested;
    const std::uint64_t second = (subleaf & 1) == 0 ? event.what : event.operand;
    return {low(first), high(first), low(second), high(second)};
}

trace::Event numbered(std::uint64_t number) {
    return {number, 0xA000'0000'0000'0000 + number, 0xB000'0000'0000'0000 + number, ~number};
}

class L0TraceTest : public testing::Test {
protected:
    L0TraceTest() {
        l0 = {};
        l0.written = 6;
        for (std::uint64_t number = 0; number < l0.written; ++number)
            l0.places[number % l0.places.size()] = numbered(number);
    }
};

TEST_F(L0TraceTest, ReadsWhatTheRingStillHasFromOldToNew) {
    const auto trace = read_l0_trace(fake_cpuid, 100);
    ASSERT_TRUE(trace) << trace.error();
    EXPECT_EQ(trace->mode, "off");
    EXPECT_EQ(trace->written, 6U);
    EXPECT_EQ(trace->events, (std::vector{numbered(2), numbered(3), numbered(4), numbered(5)}));
    EXPECT_FALSE(l0.recording);
}

TEST_F(L0TraceTest, ReadsOnlyTheNewestWhereFewAreWanted) {
    const auto trace = read_l0_trace(fake_cpuid, 2);
    ASSERT_TRUE(trace);
    EXPECT_EQ(trace->events, (std::vector{numbered(4), numbered(5)}));
}

TEST_F(L0TraceTest, SaysWhyThereIsNone) {
    l0.available = false;
    EXPECT_NE(read_l0_trace(fake_cpuid, 1).error().find("trace=on"), std::string::npos);
    EXPECT_FALSE(start_l0_trace(fake_cpuid));
    l0 = {};
    l0.ours = false;
    EXPECT_NE(read_l0_trace(fake_cpuid, 1).error().find("Flatback"), std::string::npos);
    l0 = {};
    l0.highest_leaf = 0x4000'0004;
    EXPECT_NE(read_l0_trace(fake_cpuid, 1).error().find("older"), std::string::npos);
    l0 = {};
    l0.version = 7;
    EXPECT_NE(read_l0_trace(fake_cpuid, 1).error().find('7'), std::string::npos);
}

TEST_F(L0TraceTest, TheTextHasAHeaderALineAnEventAndACheck) {
    const L0Trace trace{.capacity = 4, .written = 1, .mode = "mapped", .events = {{0x10, 0x2, 0, 0xff}}};
    // FNV-1a over words: ((((basis ^ 10) p ^ 2) p ^ 0) p ^ ff) p, computed apart.
    EXPECT_EQ(format_l0_trace(trace),
              "FLATBACK-TRACE begin version=1 mode=mapped capacity=4 written=1 events=1\n"
              "FLATBACK-TRACE 10 2 0 ff\n"
              "FLATBACK-TRACE end check=3b7e1604f75b499e\n");
}

}  // namespace
}  // namespace flatback::guests::l0_trace_test
