#include <gtest/gtest.h>

#include <array>

#include "trace/ring.hpp"

namespace flatback::trace::trace_ring_test {
namespace {

void record(Ring& ring, std::uint64_t number) {
    ring.next() = {number, 0, 0, 0};
}

TEST(TraceRing, HoldsNothingWithoutMemory) {
    Ring ring;
    EXPECT_EQ(ring.capacity(), 0U);
    EXPECT_EQ(ring.kept(), 0U);
    EXPECT_EQ(ring.at(0), nullptr);
    EXPECT_EQ(ring.newest(0), nullptr);
}

TEST(TraceRing, UsesThePowerOfTwoThatFits) {
    std::array<Event, 7> memory;
    Ring ring;
    ring.give(memory.data(), memory.size(), 3);
    EXPECT_EQ(ring.cpu_bits(), trace::make_what({}, 3, {}, {}, 0, 0));
    EXPECT_EQ(ring.capacity(), 4U);
}

TEST(TraceRing, GivesOutOnlyWhatWasRecorded) {
    std::array<Event, 4> memory;
    Ring ring;
    ring.give(memory.data(), memory.size(), 3);
    record(ring, 10);
    record(ring, 11);
    EXPECT_EQ(ring.kept(), 2U);
    EXPECT_EQ(ring.at(1)->tsc, 11U);
    EXPECT_EQ(ring.at(2), nullptr);
    EXPECT_EQ(ring.newest(1)->tsc, 10U);
    EXPECT_EQ(ring.newest(2), nullptr);
}

TEST(TraceRing, TheNewestReplaceTheOldest) {
    std::array<Event, 6> memory;
    memory[4].tsc = memory[5].tsc = 99;  // not the ring's
    Ring ring;
    ring.give(memory.data(), memory.size(), 3);
    for (std::uint64_t number = 0; number < 11; ++number) record(ring, number);
    EXPECT_EQ(ring.written(), 11U);
    EXPECT_EQ(ring.kept(), 4U);
    // Event n is in place n mod capacity.
    for (std::uint64_t number = 7; number < 11; ++number) EXPECT_EQ(ring.at(number % 4)->tsc, number);
    for (std::uint64_t back = 0; back < 4; ++back) EXPECT_EQ(ring.newest(back)->tsc, 10 - back);
    EXPECT_EQ(ring.newest(4), nullptr);
    EXPECT_EQ(memory[4].tsc, 99U);
    EXPECT_EQ(memory[5].tsc, 99U);
    ring.clear();
    EXPECT_EQ(ring.at(0), nullptr);
}

TEST(TraceEvent, EveryPartComesBack) {
    const Event event{5, make_what(Kind::exit, 3, Level::l2, Level::l0, 48, 0xfffe),
                      make_nested(0xabcd, 0x000f'ffff'ffff'f000), 7};
    EXPECT_EQ(event.kind(), Kind::exit);
    EXPECT_EQ(event.cpu(), 3U);
    EXPECT_EQ(event.from(), Level::l2);
    EXPECT_EQ(event.to(), Level::l0);
    EXPECT_EQ(event.reason(), vmx::ExitReason::ept_violation);
    EXPECT_EQ(event.vpid(), 0xfffeU);
    EXPECT_EQ(event.vpid12(), 0xabcdU);
    EXPECT_EQ(event.vmcs12(), 0x000f'ffff'ffff'f000U);
    const Event flush{
        0,
        make_what(Kind::flush_tag, 0, Level::l0, Level::l0, flush_code(3, tag::FlushCause::cpu_changed), 9),
        0, 0};
    EXPECT_EQ(flush.flush_type(), 3U);
    EXPECT_EQ(flush.cause(), tag::FlushCause::cpu_changed);
}

}  // namespace
}  // namespace flatback::trace::trace_ring_test
