// Flatback's own counters, which its L0 shows in CPUID leaf 40000002H.
#pragma once

#include <array>
#include <cstdint>

#include "interface/information_leaves.hpp"

namespace flatback::guests {

using interface::Counter;

// Counters of one moment. Reading them costs exits of its own; see CounterInterval.
struct Counters {
    static constexpr Counter which[] = {
        Counter::l0_exits,      Counter::l2_entries,     Counter::l2_tag_flushes, Counter::l1_tag_flushes,
        Counter::vmreads_by_l0, Counter::vmwrites_by_l0, Counter::vmptrlds_by_l0};
    std::array<std::uint64_t, 7> values{};

    static Counters now();
};

// Counts what happens between its construction and end(), less what reading the counters costs.
class CounterInterval final {
public:
    CounterInterval();
    void end();

    std::uint64_t of(Counter counter) const;

private:
    Counters before_;
    Counters begin_;
    Counters end_;
};

// count per event in hundredths, rounded to the nearest.
constexpr std::uint64_t hundredths(std::uint64_t count, std::uint64_t events) {
    return (count * 100 + events / 2) / events;
}

}  // namespace flatback::guests
