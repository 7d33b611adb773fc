// That no program over an alphabet breaks anything.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "judge/explore/account.hpp"
#include "judge/explore/search.hpp"

namespace flatback::machine::explore {

inline void expect_holds(const Options& options) {
    const Result result = explore(options);
    std::string text;
    for (const std::string& line : tell(options, result.program)) text += line + "\n";
    EXPECT_FALSE(result.broken) << text;
    EXPECT_TRUE(result.closed || result.depth == options.depth);
}

}  // namespace flatback::machine::explore
