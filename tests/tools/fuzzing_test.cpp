#include "tools/check/fuzzing.hpp"

#include <gtest/gtest.h>

namespace flatback::tools::fuzzing_test {
namespace {

TEST(Fuzzing, TheLastLineSaysHowManyInputsRan) {
    const auto result =
        parse_fuzz_result("#2 INITED\nDone 12 runs in 3 second(s)\nDone 210 runs in 41 second(s)\nstat\n");
    ASSERT_TRUE(result.has_value());
    EXPECT_EQ(result->runs, 210U);
    EXPECT_EQ(result->time, std::chrono::seconds{41});
}

TEST(Fuzzing, ATargetThatStopsSaysNothingOfTheKind) {
    for (const char* output :
         {"", "Done", "\nDone ", "\nDone x runs in 3", "\nDone 3 runs", "\nDone 3 runs in "}) {
        EXPECT_FALSE(parse_fuzz_result(output).has_value()) << output;
    }
}

}  // namespace
}  // namespace flatback::tools::fuzzing_test
