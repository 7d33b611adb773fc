// The tag manager holds in every state that is visited, under each way to give out tags.
#include "judge/explore/search.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "judge/explore/account.hpp"
#include "machine/error.hpp"

namespace flatback::machine::explore::search_test {
namespace {

std::string account_of(const Options& options, const Result& result) {
    std::string text;
    for (const std::string& line : tell(options, result.program)) text += line + "\n";
    return text;
}

void expect_holds(const Options& options) {
    const Result result = explore(options);
    EXPECT_FALSE(result.broken) << account_of(options, result);
    EXPECT_TRUE(result.closed || result.depth == options.depth);
}

TEST(Explore, HoldsForTheWholeAlphabet) {
    expect_holds({.depth = 8});
}

TEST(Explore, HoldsWithAnyNumberOfTags) {
    for (const unsigned tags : {1U, 3U}) expect_holds({.alphabet = {.tags = tags}, .depth = 7});
}

TEST(Explore, HoldsUnderEachPolicy) {
    for (const tag::Policy policy : {tag::Policy::single, tag::Policy::off}) {
        expect_holds({.alphabet = {.tags = 3, .policy = policy}, .depth = 7});
    }
}

/// Closed: no program of any length leads elsewhere.
TEST(Explore, ClosesSmallAlphabets) {
    const Options options{.alphabet = {.vpids = 2, .tags = 2, .pages = 1, .pcids = 1, .eptps = 1, .cpus = 1},
                          .depth = 100};
    const Result result = explore(options);
    EXPECT_TRUE(result.closed);
    EXPECT_FALSE(result.broken) << account_of(options, result);
    EXPECT_LT(result.depth, options.depth);
}

TEST(Explore, ReachesEveryStateOnceAndMoreWithMoreSteps) {
    std::size_t before = 1;
    Options options;
    options.progress = [&before](unsigned, std::size_t states, std::size_t fresh) {
        EXPECT_EQ(states, before + fresh);
        before = states;
    };
    options.depth = 5;
    const Result result = explore(options);
    EXPECT_EQ(result.states, before);
    EXPECT_EQ(result.depth, 5U);
    EXPECT_FALSE(result.closed);
}

TEST(Explore, SaysWhichLimitOfMemoryWasReached) {
    try {
        static_cast<void>(explore({.depth = 9, .memory_bytes = std::size_t{1} << 20}));
        FAIL() << "no limit was met";
    } catch (const LimitReached& limit) {
        const std::string text = limit.what();
        EXPECT_NE(text.find("the limit of 1048576 bytes is reached with "), std::string::npos) << text;
        EXPECT_EQ(text.find('\n'), std::string::npos);
    }
}

TEST(Explore, StaysWithinItsMemory) {
    const Result result = explore({.depth = 7, .memory_bytes = std::size_t{8} << 20});
    EXPECT_LE(result.memory_bytes, std::size_t{8} << 20);
    EXPECT_GE(result.memory_bytes, result.states * sizeof(KeptState));
}

TEST(Alphabet, HasEveryStepThatTheDocumentNames) {
    const Actions actions{Alphabet{}};
    using Kind = Action::Kind;
    for (int kind = 0; kind <= static_cast<int>(Kind::other_vm_goes); ++kind) {
        const auto is_it = [kind](const Action& action) { return static_cast<int>(action.kind) == kind; };
        EXPECT_TRUE(std::ranges::any_of(actions.of_l1, is_it) || std::ranges::any_of(actions.of_l2, is_it))
            << kind;
    }
}

}  // namespace
}  // namespace flatback::machine::explore::search_test
