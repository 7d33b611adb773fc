#pragma once

#include <optional>

#include "machine/price/lat_ctx.hpp"
#include "machine/price/processor_costs.hpp"

namespace flatback::machine::price {

/// What a run of lat_ctx in an emulator counted, per context switch. Nothing: it was not counted.
struct Counts {
    std::optional<double> l0_exits{};
    std::optional<double> l1_tag_flushes{};
    std::optional<double> l2_tag_flushes{};
    std::optional<double> any_tag_flushes{};  // where the counter does not tell them apart
};

/// What a flush makes the processor fetch again: TLB misses and references of the walks that they start, one
/// flush.
struct Refill {
    double misses = 0;
    double walk_references = 0;
};

/// By whose tag was flushed, in one column of lat_ctx.
struct Refills {
    Refill l1_tag;
    Refill l2_tag;
};

/// The refills, from the model of lat_ctx on this geometry: the policy that flushes less is subtracted from
/// the one that flushes more, and the rest divided by the flushes between them.
[[nodiscard]] Refills refills_of(const TlbGeometry& geometry, const Column& column,
                                 const Assumptions& assumptions);

/// Cycles per context switch that the emulator did not charge, by cause. A cause whose events were not all
/// counted has none, and there is no total then: a part is never given for the whole.
struct StackPrice {
    std::optional<Range> world_switches;
    std::optional<Range> flush_instructions;
    std::optional<Range> refills;

    [[nodiscard]] std::optional<Range> total() const;
    /// Nothing was counted, so nothing can be priced.
    [[nodiscard]] bool empty() const { return !world_switches && !flush_instructions && !refills; }
};

[[nodiscard]] StackPrice price_of(const Counts& counts, const Refills& refills, const ProcessorCosts& costs);

/// Two digits, the low end rounded down and the high end up: more would say more than is known.
[[nodiscard]] Range rounded(const Range& range);

}  // namespace flatback::machine::price
