#include <gtest/gtest.h>

#include <cmath>

#include "machine/price/lat_ctx.hpp"

namespace flatback::machine::price::price_test {
namespace {

Assumptions short_run() {
    Assumptions assumptions;
    assumptions.measured_rounds = 16;
    return assumptions;
}

class PriceList : public testing::TestWithParam<std::string_view> {
protected:
    const TlbGeometry& geometry = *find_geometry(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Processors, PriceList, testing::Values("haswell", "skylake-x", "ice-lake"),
                         [](const auto& parameter) {
                             std::string name(parameter.param);
                             for (char& each : name) {
                                 if (each == '-') each = '_';
                             }
                             return name;
                         });

TEST_P(PriceList, MappedCostsAsManyMissesAsNoL0InEveryColumn) {
    for (const Column& column : columns) {
        const double mapped = context_switch(geometry, Policy::mapped, column, short_run()).misses;
        const double bare = context_switch(geometry, Policy::bare, column, short_run()).misses;
        EXPECT_LE(std::abs(mapped - bare), 0.02 * bare) << name_of(column) << ": " << mapped << ", " << bare;
    }
}

TEST_P(PriceList, MappedCostsAsManyMissesAsNoL0ForEveryNumberOfL2sUpToTheSlots) {
    for (const unsigned l2s : l2_counts) {
        const double mapped = taking_turns(geometry, Policy::mapped, l2s, short_run()).misses;
        const double bare = taking_turns(geometry, Policy::bare, l2s, short_run()).misses;
        EXPECT_LE(std::abs(mapped - bare), 0.02 * bare) << l2s << ": " << mapped << ", " << bare;
    }
}

TEST_P(PriceList, TheOrderIsMappedThenSingleThenShared) {
    for (const Column& column : columns) {
        const double mapped = context_switch(geometry, Policy::mapped, column, short_run()).misses;
        const double single = context_switch(geometry, Policy::single, column, short_run()).misses;
        const double shared = context_switch(geometry, Policy::shared, column, short_run()).misses;
        EXPECT_LT(mapped, single) << name_of(column);
        EXPECT_LT(single, shared) << name_of(column);
    }
}

TEST_P(PriceList, PastItsSlotsMappedIsNoWorseThanSingle) {
    Assumptions few_slots = short_run();
    few_slots.slots = 4;
    for (const unsigned l2s : l2_counts) {
        const double mapped = taking_turns(geometry, Policy::mapped, l2s, few_slots).misses;
        const double single = taking_turns(geometry, Policy::single, l2s, few_slots).misses;
        EXPECT_LE(mapped, single * 1.001) << l2s;
    }
}

TEST(PriceList, MoreExitsCostThePoliciesThatFlushMore) {
    Assumptions rare = short_run();
    Assumptions often = short_run();
    often.exits_per_switch = 1;
    const TlbGeometry& geometry = *find_geometry("skylake-x");
    for (const Policy policy : {Policy::single, Policy::shared}) {
        const double few = context_switch(geometry, policy, {8, 16}, rare).misses;
        const double many = context_switch(geometry, policy, {8, 16}, often).misses;
        EXPECT_GT(many, few + 20) << name_of(policy) << ": L1's 48 pages, each exit";
    }
}

}  // namespace
}  // namespace flatback::machine::price::price_test
