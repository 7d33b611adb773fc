#include "guests/lat_ctx/options.hpp"

#include <gtest/gtest.h>

namespace flatback::guests::options_test {
namespace {

Expected<Options> parse(std::vector<std::string_view> words) {
    return parse_options(words);
}

TEST(LatCtxOptions, WithoutAnyTheUsualColumnsBecomeATable) {
    const auto options = parse({});
    ASSERT_TRUE(options);
    EXPECT_TRUE(std::ranges::equal(options->columns, usual_columns));
    EXPECT_EQ(options->records, "");
    EXPECT_EQ(options->counters, "");
    EXPECT_FALSE(options->processor);
    EXPECT_FALSE(options->help);
}

TEST(LatCtxOptions, EveryOptionIsTaken) {
    const auto options = parse({"--columns", "2p/0K,16p/64K", "--switches", "100", "--cpu", "3", "--records",
                                "lat_ctx.l1", "--counters", "line:/dev/ttyS1", "--across", "2"});
    ASSERT_TRUE(options);
    EXPECT_EQ(options->columns, (std::vector<Column>{{2, 0}, {16, 64}}));
    EXPECT_EQ(options->switches, 100U);
    EXPECT_EQ(options->processor, 3U);
    EXPECT_EQ(options->across, 2U);
    EXPECT_EQ(options->records, "lat_ctx.l1");
    EXPECT_EQ(options->counters, "line:/dev/ttyS1");
    EXPECT_TRUE(parse({"--help"})->help);
}

TEST(LatCtxOptions, MistakesAreToldInOneLine) {
    EXPECT_EQ(parse({"--fast"}).error(), "unknown argument '--fast'; see lat-ctx --help");
    EXPECT_EQ(parse({"--columns"}).error(), "--columns needs a list of columns");
    EXPECT_EQ(parse({"--columns", "2p/0K,,8p/16K"}).error(),
              "not a column: '' (like 8p/16K, of 2 to 64 processes and 0 to 1024 KB)");
    EXPECT_EQ(parse({"--columns", "2p/0K,8p/16K,2p/0K"}).error(), "the column 2p/0K is there twice");
    EXPECT_EQ(parse({"--switches", "0"}).error(), "--switches takes a number from 1 to 100000000, not '0'");
    EXPECT_EQ(parse({"--cpu", "x"}).error(), "--cpu takes a number from 0 to 1023, not 'x'");
    EXPECT_EQ(parse({"--across", "0"}).error(), "--across takes a number from 1 to 1024, not '0'");
    EXPECT_EQ(parse({"--records", "two words"}).error(), "--records takes a key without spaces");
    EXPECT_EQ(parse({"--records"}).error(), "--records needs a key");
}

TEST(LatCtxOptions, TheUsageNamesEveryOption) {
    for (const char* option :
         {"--columns", "--switches", "--cpu", "--across", "--records", "--counters", "--help"}) {
        EXPECT_NE(options_usage().find(option), std::string::npos) << option;
    }
}

}  // namespace
}  // namespace flatback::guests::options_test
