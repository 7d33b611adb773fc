#include "guests/lat_ctx/measure.hpp"

#include <x86intrin.h>

#include <algorithm>
#include <vector>

#include "guests/lat_ctx/ring.hpp"
#include "guests/linux/mark.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t switches_a_batch = 8;
constexpr std::uint64_t warm_up_rounds = 4;

/// Times batches of rounds of a Ring or a SingleProcess, which has been warmed up.
template <typename Rounds>
[[nodiscard]] Expected<std::vector<std::uint64_t>> time_batches(Rounds& rounds, const Batches& batches) {
    std::vector<std::uint64_t> ticks(batches.count);
    for (std::uint64_t& batch : ticks) {
        const std::uint64_t start = __rdtsc();
        for (std::uint64_t round = 0; round < batches.rounds_each; ++round) {
            if (auto gone = rounds.go_round(); !gone) {
                return std::unexpected(gone.error());
            }
        }
        batch = __rdtsc() - start;
    }
    return ticks;
}

template <typename Rounds>
[[nodiscard]] Expected<void> warm_up(Rounds& rounds) {
    for (std::uint64_t round = 0; round < warm_up_rounds; ++round) {
        if (auto gone = rounds.go_round(); !gone) {
            return gone;
        }
    }
    return {};
}

[[nodiscard]] Expected<double> measure_overhead(const Column& column, const Batches& batches) {
    auto single = SingleProcess::create(column);
    if (!single) {
        return std::unexpected(single.error());
    }
    if (auto warm = warm_up(*single); !warm) {
        return std::unexpected(warm.error());
    }
    mark_part();
    auto ticks = time_batches(*single, batches);
    if (!ticks) {
        return std::unexpected(ticks.error());
    }
    if (auto right = single->check(); !right) {
        return std::unexpected(right.error());
    }
    return median_per_turn(*ticks, batches.rounds_each * column.processes);
}

[[nodiscard]] Expected<double> measure_across(const Column& column, const Batches& batches,
                                              unsigned processors) {
    auto ring = Ring::create(column, processors);
    if (!ring) {
        return std::unexpected(ring.error());
    }
    if (auto warm = warm_up(*ring); !warm) {
        return std::unexpected(warm.error());
    }
    auto ticks = time_batches(*ring, batches);
    if (!ticks) {
        return std::unexpected(ticks.error());
    }
    if (auto right = ring->check(); !right) {
        return std::unexpected(right.error());
    }
    return median_per_turn(*ticks, batches.rounds_each * column.processes);
}

}  // namespace

Batches batches_for(const Column& column, std::uint64_t switches) {
    const std::uint64_t rounds_each = std::max<std::uint64_t>(1, switches_a_batch / column.processes);
    const std::uint64_t count = std::max<std::uint64_t>(1, switches / (rounds_each * column.processes));
    return {count % 2 == 1 ? count : count + 1, rounds_each};
}

double median_per_turn(std::span<std::uint64_t> batches, std::uint64_t turns) {
    const auto middle = batches.begin() + static_cast<std::ptrdiff_t>(batches.size() / 2);
    std::ranges::nth_element(batches, middle);
    return static_cast<double>(*middle) / static_cast<double>(turns);
}

Expected<ColumnResult> measure_column(const Column& column, std::uint64_t switches, CounterBracket* counters,
                                      unsigned across) {
    const Batches batches = batches_for(column, switches);
    const auto overhead = measure_overhead(column, batches);
    if (!overhead) {
        return std::unexpected(overhead.error());
    }
    mark_part();
    auto ring = Ring::create(column);
    if (!ring) {
        return std::unexpected(ring.error());
    }
    if (auto warm = warm_up(*ring); !warm) {
        return std::unexpected(warm.error());
    }
    if (counters != nullptr) {
        if (auto begun = counters->begin(); !begun) {
            return std::unexpected(begun.error());
        }
    }
    mark_part();
    auto ticks = time_batches(*ring, batches);
    if (!ticks) {
        return std::unexpected(ticks.error());
    }
    ColumnResult result{0, *overhead, batches.count * batches.rounds_each * column.processes, std::nullopt};
    if (counters != nullptr) {
        const auto totals = counters->end();
        if (!totals) {
            return std::unexpected(totals.error());
        }
        result.counters = *totals;
    }
    if (auto right = ring->check(); !right) {
        return std::unexpected(right.error());
    }
    result.ticks = median_per_turn(*ticks, batches.rounds_each * column.processes);
    if (across > 1) {
        const auto several = measure_across(column, batches, across);
        if (!several) {
            return std::unexpected(several.error());
        }
        result.across_ticks = *several;
    }
    return result;
}

}  // namespace flatback::guests
