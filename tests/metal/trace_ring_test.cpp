#include <gtest/gtest.h>

#include <array>
#include <utility>
#include <vector>

#include "trace/ring.hpp"
#include "trace/timeline.hpp"

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

// The tick, and whose.
using Seen = std::vector<std::pair<std::uint64_t, unsigned>>;

template <std::size_t most_rings>
Seen all_of(Timeline<most_rings> timeline) {
    Seen seen;
    while (const Event* const event = timeline.next()) seen.emplace_back(event->tsc, event->cpu());
    return seen;
}

class TraceTimeline : public testing::Test {
protected:
    void record_on(unsigned processor, std::uint64_t tick) {
        rings_[processor].next() = {tick, rings_[processor].cpu_bits(), 0, 0};
    }
    Seen newest(std::uint64_t most) const {
        const std::array<const Ring*, 3> rings{&rings_[0], &rings_[1], &rings_[2]};
        return all_of(Timeline<3>{rings, most});
    }
    TraceTimeline() {
        for (unsigned processor = 0; processor < 3; ++processor)
            rings_[processor].give(memory_[processor].data(), 4, processor);
    }

    std::array<std::array<Event, 4>, 3> memory_{};
    std::array<Ring, 3> rings_{};
};

TEST_F(TraceTimeline, OrdersTheEventsOfAllRingsByTheirTimes) {
    for (const auto& [processor, tick] : {std::pair{1U, 5U}, {0U, 3U}, {1U, 9U}, {0U, 6U}, {2U, 4U}})
        record_on(processor, tick);
    EXPECT_EQ(newest(32), (Seen{{3, 0}, {4, 2}, {5, 1}, {6, 0}, {9, 1}}));
    EXPECT_EQ(newest(2), (Seen{{6, 0}, {9, 1}}));
    EXPECT_EQ(newest(0), Seen{});
}

TEST_F(TraceTimeline, OneRingMayHaveTheNewestAlone) {
    for (std::uint64_t tick = 1; tick < 10; ++tick) record_on(2, 100 + tick);
    record_on(0, 50);
    EXPECT_EQ(newest(4), (Seen{{106, 2}, {107, 2}, {108, 2}, {109, 2}}));
    EXPECT_EQ(newest(32), (Seen{{50, 0}, {106, 2}, {107, 2}, {108, 2}, {109, 2}}));
}

TEST_F(TraceTimeline, RingsWithoutEventsAddNone) {
    EXPECT_EQ(newest(32), Seen{});
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
