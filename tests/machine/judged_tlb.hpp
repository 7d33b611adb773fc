#pragma once

#include <rapidcheck/gtest.h>

#include "machine/program/judged_tlb.hpp"

namespace flatback::machine::test {

/// Of a Skylake's geometry, for properties.
[[nodiscard]] inline JudgedTlb judged_tlb() {
    return {*find_geometry("skylake-x"), [] { RC_FAIL("an outcome that is not permitted"); }};
}

}  // namespace flatback::machine::test
