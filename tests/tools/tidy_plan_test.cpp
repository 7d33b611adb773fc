#include "tools/check/tidy_plan.hpp"

#include <gtest/gtest.h>

namespace flatback::tools::tidy_plan_test {
namespace {

using Names = std::vector<std::string>;
using Files = std::set<std::string>;

TEST(TidyPlan, IncludesAreThoseBetweenQuotationMarks) {
    EXPECT_EQ(quoted_includes("#include <a>\n#include \"b.hpp\"  // why\n  text \"c.hpp\"\n#include "
                              "\"d/e.hpp\"\n#include \"open"),
              (Names{"b.hpp", "d/e.hpp"}));
}

TEST(TidyPlan, ASourceBringsInWhatItsHeadersInclude) {
    const std::map<std::string, std::string> texts{{"a/a.cpp", "#include \"a/a.hpp\"\n"},
                                                   {"a/a.hpp", "#include \"../b/b.hpp\"\n"},
                                                   {"b/b.hpp", "#include \"c.hpp\"\n#include \"a/a.hpp\"\n"},
                                                   {"b/c.hpp", ""},
                                                   {"c.hpp", ""}};
    const Includes includes{texts};
    EXPECT_EQ(includes.brought_in("a/a.cpp"), (Files{"a/a.cpp", "a/a.hpp", "b/b.hpp", "b/c.hpp"}));
    EXPECT_EQ(includes.brought_in("none.cpp"), Files{});
}

const std::map<std::string, Files> three_sources{
    {"a.cpp", {"a.cpp", "a.hpp", "x.hpp"}}, {"b.cpp", {"b.cpp", "x.hpp", "y.hpp"}}, {"c.cpp", {"c.cpp"}}};

TEST(TidyPlan, AChangedHeaderIsShownByOneSource) {
    EXPECT_EQ(sources_that_show({"x.hpp"}, three_sources, 9).size(), 1U);
    EXPECT_EQ(sources_that_show({"x.hpp", "y.hpp"}, three_sources, 9), (Names{"b.cpp"}));
    EXPECT_EQ(sources_that_show({"x.hpp", "c.cpp"}, three_sources, 9).size(), 2U);
}

TEST(TidyPlan, AChangedSourceIsAlwaysLookedAt) {
    EXPECT_EQ(sources_that_show({"a.cpp", "b.cpp", "x.hpp"}, three_sources, 9), (Names{"a.cpp", "b.cpp"}));
}

TEST(TidyPlan, NothingChangedNeedsNothing) {
    EXPECT_TRUE(sources_that_show({}, three_sources, 9).empty());
    EXPECT_TRUE(sources_that_show({"of-nobody.hpp"}, three_sources, 9).empty());
    EXPECT_EQ(sources_that_show({"a.cpp", "b.cpp", "c.cpp"}, three_sources, 2).size(), 2U);
}

TEST(TidyPlan, WhatWasCleanIsRememberedByItsText) {
    CleanFiles clean = CleanFiles::parse("", "rules");
    EXPECT_TRUE(clean.empty());
    clean.add("a b.cpp", "12");
    const CleanFiles again = CleanFiles::parse(clean.text(), "rules");
    EXPECT_TRUE(again.contains("a b.cpp", "12"));
    EXPECT_FALSE(again.contains("a b.cpp", "13"));
    EXPECT_FALSE(again.contains("c.cpp", "12"));
    EXPECT_TRUE(CleanFiles::parse(clean.text(), "other rules").empty());
    EXPECT_TRUE(CleanFiles::parse("rules\n x\n12\n12 \n", "rules").empty());
}

}  // namespace
}  // namespace flatback::tools::tidy_plan_test
