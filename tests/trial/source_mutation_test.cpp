// Mutations of sources: what a line can become, and what is left alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "judge/mutants/source/mutation.hpp"
#include "judge/mutants/source/run.hpp"

namespace flatback::machine::source_mutation_test {
namespace {

std::set<std::string> mutants_of(const std::string& line) {
    std::set<std::string> found;
    for (const SourceMutation& each : mutations_of("a.hpp", line)) found.insert(each.after);
    return found;
}

TEST(SourceMutation, NegatesAndDropsConditions) {
    const auto found = mutants_of("    if (a && b) {");
    EXPECT_TRUE(found.contains("if (!(a && b)) {"));
    EXPECT_TRUE(found.contains("if (false) {"));
    EXPECT_TRUE(found.contains("if (true) {"));
    EXPECT_TRUE(found.contains("if (a || b) {"));
}

TEST(SourceMutation, DropsStatementsAndReturns) {
    EXPECT_TRUE(mutants_of("    vpid01_.invalidate();").contains(";"));
    EXPECT_TRUE(mutants_of("    slot.pending = 0;").contains(";"));
    EXPECT_TRUE(mutants_of("    ++counters_.exits;").contains(";"));
    EXPECT_TRUE(mutants_of("    if (bad) return false;").contains("if (bad) {}"));
    EXPECT_TRUE(mutants_of("    return true;").contains("return false;"));
    EXPECT_FALSE(mutants_of("    const auto x = f();").contains(";"));
}

TEST(SourceMutation, SwapsArgumentsAndMovesNumbersAndComparisons) {
    EXPECT_TRUE(mutants_of("    flush(tag, cpu);").contains("flush(cpu, tag);"));
    EXPECT_TRUE(mutants_of("    if (i < 4) go();").contains("if (i <= 4) go();"));
    EXPECT_TRUE(mutants_of("    if (i < 4) go();").contains("if (i < 5) go();"));
    EXPECT_TRUE(mutants_of("    if (i < 4) go();").contains("if (i < 3) go();"));
    EXPECT_TRUE(mutants_of("    x = 0x10;").contains("x = 17;"));
}

TEST(SourceMutation, TakesAnotherFieldOfTheSameType) {
    EXPECT_TRUE(mutants_of("    put(field::guest_rip, 0);").contains("put(field::guest_rflags, 0);"));
    EXPECT_TRUE(
        mutants_of("    put(field::guest_ia32_sysenter_eip, x);").contains("put(field::guest_cr0, x);"))
        << "the last one is followed by the first";
}

TEST(SourceMutation, LeavesAloneWhatDoesNothing) {
    for (const char* line :
         {"// if (a) b();", "#include \"a.hpp\"", "namespace a {", "static_assert(1 == 1);",
          "    if constexpr (a == b) {", "inline constexpr int x = 3;", "template <typename T>"}) {
        EXPECT_TRUE(mutations_of("a.hpp", line).empty()) << line;
    }
    EXPECT_EQ(mutants_of("    a = b;  // 5 == 5"), std::set<std::string>{";"});
}

TEST(SourceMutation, IsMadeInItsLine) {
    const std::string text = "a = 1;\n    a = 1;\n    a = 1;\n";
    const auto all = mutations_of("a.hpp", text);
    const auto third =
        std::ranges::find_if(all, [](const SourceMutation& it) { return it.line == 3 && it.after == ";"; });
    ASSERT_NE(third, all.end());
    EXPECT_EQ(mutated(text, *third), "a = 1;\n    a = 1;\n    ;\n");
}

TEST(SourceMutation, IsTheSameForTheSameSeed) {
    const auto all = mutations_of("a.hpp", "    if (a && b) f(x, y);\n    if (c < 3) g(x, y);\n");
    EXPECT_EQ(sample(all, 5, 1), sample(all, 5, 1));
    EXPECT_NE(sample(all, 5, 1), sample(all, 5, 2));
    EXPECT_EQ(sample(all, 1000, 1).size(), all.size());
}

TEST(ReviewedMutations, AreBlocksOfFourLines) {
    std::istringstream text("# what this is\n\na.hpp\nx = 1;\nx = 2;\nnobody reads x\n\nb.hpp\n;\n;\nwhy\n");
    const auto found = read_reviewed(text);
    ASSERT_EQ(found.size(), 2U);
    EXPECT_EQ(found[0].after, "x = 2;");
    EXPECT_EQ(found[1].why, "why");
    std::istringstream bad("a.hpp\nx = 1;\n");
    EXPECT_THROW(read_reviewed(bad), std::runtime_error);
}

}  // namespace
}  // namespace flatback::machine::source_mutation_test
