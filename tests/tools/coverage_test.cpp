#include "tools/check/coverage.hpp"

#include <gtest/gtest.h>

namespace flatback::tools::coverage_test {
namespace {

constexpr const char* summary =
    R"({"files": [{"filename": "nested/a.hpp", "line_covered": 3, "line_total": 4, "branch_percent": null},
                  {"filename": "tag/b.hpp", "line_covered": 9, "line_total": 10},
                  {"filename": "nested/c.hpp", "line_covered": 4, "line_total": 4}], "line_percent": 88.9})";

TEST(Coverage, AFolderIsTheSumOfItsFiles) {
    const auto files = parse_coverage(summary);
    ASSERT_TRUE(files.has_value());
    const FileCoverage nested = folder_coverage(*files, "nested");
    EXPECT_EQ(nested, (FileCoverage{"nested/", 8, 7}));
    EXPECT_DOUBLE_EQ(percent(nested), 87.5);
    EXPECT_EQ(folder_coverage(*files, "tag").covered, 9U);
}

TEST(Coverage, AFolderWithoutLinesIsNotCovered) {
    EXPECT_EQ(percent(folder_coverage({}, "tag")), 0);
}

TEST(Coverage, WhatIsNoSummaryIsRefused) {
    for (const char* text : {"", "[]", "{}", R"({"files": 3})", R"({"files": [3]})", R"({"files": [{}]})",
                             R"({"files": [{"filename": 1, "line_total": 1, "line_covered": 1}]})",
                             R"({"files": [{"filename": "a", "line_total": -1, "line_covered": 1}]})"}) {
        EXPECT_FALSE(parse_coverage(text).has_value()) << text;
    }
}

}  // namespace
}  // namespace flatback::tools::coverage_test
