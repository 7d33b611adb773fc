#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "guests/lat_ctx/column.hpp"
#include "guests/linux/counter_source.hpp"
#include "guests/linux/failure.hpp"

namespace flatback::guests {

struct ColumnResult {
    double ticks;            ///< raw: a turn with pipe, sum and switch
    double overhead_ticks;   ///< a turn of the single process: pipe and sum
    std::uint64_t switches;  ///< that were measured
    /// Over all the measured switches.
    std::optional<CounterTotals> counters;
    /// Raw, of the same ring with its processes on several processors by turns.
    std::optional<double> across_ticks = std::nullopt;

    /// lmbench's figure. Not below 0: where a switch costs less than the batches differ.
    [[nodiscard]] double switch_ticks() const { return ticks > overhead_ticks ? ticks - overhead_ticks : 0; }
};

/// How a number of switches is cut into batches of whole rounds.
struct Batches {
    std::uint64_t count;
    std::uint64_t rounds_each;
};

/// Batches of few switches, so that the median leaves out those that a timer interrupt fell into. Odd in
/// number.
[[nodiscard]] Batches batches_for(const Column& column, std::uint64_t switches);

/// The median of `batches` of `turns` turns each, in ticks a turn. Reorders them; not empty.
[[nodiscard]] double median_per_turn(std::span<std::uint64_t> batches, std::uint64_t turns);

/// Measures a column. `counters` may be null. `across`: where more than one, also over so many processors;
/// the one that this runs on is then number 0.
[[nodiscard]] Expected<ColumnResult> measure_column(const Column& column, std::uint64_t switches,
                                                    CounterBracket* counters, unsigned across = 1);

}  // namespace flatback::guests
