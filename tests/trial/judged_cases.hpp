// What every kind of the ledger's cases is asked first.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "judge/ledger/ledger.hpp"

namespace flatback::machine::test {

/// More than `least`, so that an empty list is not taken for a good one.
inline void expect_as_on_a_bare_processor(const std::vector<LedgerCase>& cases, std::size_t least) {
    EXPECT_GT(cases.size(), least);
    for (const LedgerCase& each : cases) {
        const auto wrong = judge(each);
        EXPECT_FALSE(wrong.has_value()) << each.name << "\n" << *wrong;
    }
}

}  // namespace flatback::machine::test
