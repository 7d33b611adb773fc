#include "machine/price/stack_price.hpp"

#include <algorithm>
#include <cmath>

namespace flatback::machine::price {

namespace {

// Exits are rare enough that both footprints are whole again before the next one, and a power of two, so that
// the measured rings hold a whole number of exits.
constexpr double exits_per_switch = 0.125;

Refill per_exit(const Price& more, const Price& less) {
    // Replacement can make a difference that is not there a little negative.
    return {std::max(0.0, more.misses - less.misses) / exits_per_switch,
            std::max(0.0, more.walk_references - less.walk_references) / exits_per_switch};
}

double two_digits(double value, double (*round)(double)) {
    if (value <= 0) return 0;
    const double unit = std::pow(10.0, std::floor(std::log10(value)) - 1);
    // What is whole but for the error of the division stays as it is.
    const double digits = value / unit;
    const double whole = std::round(digits);
    return (std::abs(digits - whole) < 1e-9 ? whole : round(digits)) * unit;
}

}  // namespace

Refills refills_of(const TlbGeometry& geometry, const Column& column, const Assumptions& assumptions) {
    Assumptions assume = assumptions;
    assume.exits_per_switch = exits_per_switch;
    const auto price = [&](Policy policy) { return context_switch(geometry, policy, column, assume); };
    // `single` flushes L1's tag at each exit and, with one L2, nothing else; `shared` flushes L1's and L2's
    // entries together at each exit and each entry.
    const Price mapped = price(Policy::mapped);
    const Price single = price(Policy::single);
    const Price shared = price(Policy::shared);
    return {.l1_tag = per_exit(single, mapped), .l2_tag = per_exit(shared, single)};
}

std::optional<Range> StackPrice::total() const {
    Range sum;
    for (const std::optional<Range>& part : {world_switches, flush_instructions, refills}) {
        if (!part) return std::nullopt;
        sum += *part;
    }
    return sum;
}

StackPrice price_of(const Counts& counts, const Refills& refills, const ProcessorCosts& costs) {
    const Range& reference = costs.page_walk_reference.cycles;
    StackPrice price;
    if (counts.l0_exits) price.world_switches = *counts.l0_exits * costs.world_switch.cycles;
    if (counts.l1_tag_flushes && counts.l2_tag_flushes) {
        const double l1 = *counts.l1_tag_flushes;
        const double l2 = *counts.l2_tag_flushes;
        price.flush_instructions = (l1 + l2) * costs.flush_instruction.cycles;
        price.refills =
            (l1 * refills.l1_tag.walk_references + l2 * refills.l2_tag.walk_references) * reference;
    } else if (counts.any_tag_flushes) {
        // Flushes of a tag that is not known refill at least the smaller footprint, at most the larger.
        const double any = *counts.any_tag_flushes;
        const auto [less, more] = std::minmax(refills.l1_tag.walk_references, refills.l2_tag.walk_references);
        price.flush_instructions = any * costs.flush_instruction.cycles;
        price.refills = any * Range{less * reference.low, more * reference.high};
    }
    return price;
}

Range rounded(const Range& range) {
    return {two_digits(range.low, std::floor), two_digits(range.high, std::ceil)};
}

}  // namespace flatback::machine::price
