#include "guests/bare/l1/counters.hpp"

#include "guests/bare/l1/cpu.hpp"

namespace flatback::guests {

Counters Counters::now() {
    Counters result;
    for (std::size_t i = 0; i < result.values.size(); ++i) {
        const CpuidResult leaf = cpuid(interface::counter_leaf, static_cast<std::uint32_t>(which[i]));
        result.values[i] = leaf.eax | std::uint64_t{leaf.edx} << 32;
    }
    return result;
}

// Two readings with nothing between them tell what a reading costs.
CounterInterval::CounterInterval() : before_{Counters::now()}, begin_{Counters::now()}, end_{begin_} {}

void CounterInterval::end() {
    end_ = Counters::now();
}

std::uint64_t CounterInterval::of(Counter counter) const {
    for (std::size_t i = 0; i < begin_.values.size(); ++i) {
        if (Counters::which[i] != counter) continue;
        return (end_.values[i] - begin_.values[i]) - (begin_.values[i] - before_.values[i]);
    }
    return 0;
}

}  // namespace flatback::guests
