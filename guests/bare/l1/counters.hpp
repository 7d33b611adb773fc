// Flatback's own counters, which its L0 shows in CPUID leaf 40000002H.
#pragma once

#include <array>
#include <cstdint>

namespace flatback::guests {

enum class Counter : std::uint32_t {
    l0_exits = 0,
    l2_entries = 1,
    l2_tag_flushes = 18,
    l1_tag_flushes = 19,
    vmreads = 23,
    vmwrites = 24,
    vmptrlds = 25,
};

// Counters of one moment. Reading them costs exits of its own; see CounterInterval.
struct Counters {
    static constexpr Counter which[] = {Counter::l0_exits,       Counter::l2_entries, Counter::l2_tag_flushes,
                                        Counter::l1_tag_flushes, Counter::vmreads,    Counter::vmwrites,
                                        Counter::vmptrlds};
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
