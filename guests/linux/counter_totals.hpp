#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace flatback::guests {

/// The four totals that a benchmark in L1 or L2 reports per switch. Totals since L0 began to count; only
/// differences mean anything.
struct CounterTotals {
    std::uint64_t l2_entries = 0;      ///< VM entries into L2 that L1 asked for
    std::uint64_t l0_exits = 0;        ///< VM exits taken by L0, of L1 and L2
    std::uint64_t l2_tag_flushes = 0;  ///< hardware flushes of a tag that an L2 runs with
    std::uint64_t l1_tag_flushes = 0;  ///< hardware flushes of L1's own tag

    friend bool operator==(const CounterTotals&, const CounterTotals&) = default;
};

/// after - before, field by field; 0 where that would be negative.
[[nodiscard]] constexpr CounterTotals since(const CounterTotals& before, const CounterTotals& after) {
    const auto difference = [](std::uint64_t a, std::uint64_t b) { return a > b ? a - b : 0; };
    return {difference(after.l2_entries, before.l2_entries), difference(after.l0_exits, before.l0_exits),
            difference(after.l2_tag_flushes, before.l2_tag_flushes),
            difference(after.l1_tag_flushes, before.l1_tag_flushes)};
}

// The counter line: how a guest asks the level below for the totals, over a serial line (README.md).

inline constexpr std::string_view counter_request = "counters";

/// The longest line of the protocol, with its newline. Whoever reads may drop the line beyond.
inline constexpr std::size_t counter_line_limit = 160;

/// The reply, without its newline: `counters l2_entries=N l0_exits=N l2_tag_flushes=N l1_tag_flushes=N`.
[[nodiscard]] std::string format_counter_reply(const CounterTotals& totals);

/// Nothing where the line is no such reply: a word missing, doubled, unknown or not decimal.
[[nodiscard]] std::optional<CounterTotals> parse_counter_reply(std::string_view line);

}  // namespace flatback::guests
