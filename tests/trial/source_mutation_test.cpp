// Mutations of sources: what a function's body can become, what is left alone, and how all of them stand in
// one build.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "judge/mutants/source/ground.hpp"
#include "judge/mutants/source/mutation.hpp"
#include "judge/mutants/source/run.hpp"
#include "judge/mutants/source/schema.hpp"
#include "judge/mutants/source/schema_build.hpp"

namespace flatback::machine::source_mutation_test {
namespace {

std::set<std::string> mutants_of(const std::string& line) {
    std::set<std::string> found;
    for (const SourceMutation& each : mutations_of("a.hpp", "void f() {\n    " + line + "\n}\n"))
        found.insert(each.after);
    return found;
}

TEST(SourceMutation, NegatesAndDropsConditions) {
    const auto found = mutants_of("if (a && b) c();");
    EXPECT_TRUE(found.contains("if (!(a && b)) c();"));
    EXPECT_TRUE(found.contains("if (false) c();"));
    EXPECT_TRUE(found.contains("if (true) c();"));
    EXPECT_TRUE(found.contains("if (a || b) c();"));
    EXPECT_TRUE(found.contains("if (true && b) c();"));
    EXPECT_TRUE(found.contains("if (a && true) c();"));
    EXPECT_TRUE(mutants_of("return a || !b(c, d);").contains("return a || false;"));
    EXPECT_TRUE(mutants_of("return a || !b(c, d);").contains("return a || b(c, d);"));
    EXPECT_TRUE(mutants_of("x = a == b ? c : d;").contains("x = !(a == b) ? c : d;"));
    EXPECT_TRUE(
        mutants_of("if (const auto x = f(); x > 3) g();").contains("if (const auto x = f(); false) g();"));
    EXPECT_TRUE(mutants_of("while (a) b();").contains("while (false) b();"));
}

TEST(SourceMutation, OfSeveralOperandsEachIsDroppedOnce) {
    const auto all = mutations_of("a.hpp", "void f() { if (a && b && c) d(); }");
    EXPECT_EQ(std::ranges::count(all, std::string_view("operand dropped"), &SourceMutation::kind), 3);
}

TEST(SourceMutation, DropsStatements) {
    EXPECT_TRUE(mutants_of("vpid01_.invalidate();").contains(";"));
    EXPECT_TRUE(mutants_of("slot.pending = 0;").contains(";"));
    EXPECT_TRUE(mutants_of("++counters_.exits;").contains(";"));
    EXPECT_TRUE(mutants_of("if (bad) go();").contains("if (bad) ;"));
    EXPECT_TRUE(mutants_of("return true;").contains("return false;"));
    EXPECT_TRUE(mutants_of("f([&] { g(); });").contains("f([&] { ; });"));
    EXPECT_TRUE(mutants_of("go(a,\n   b);").contains(";")) << "of two lines";
    EXPECT_FALSE(mutants_of("const auto x = f();").contains(";"));
    EXPECT_FALSE(mutants_of("Slot& slot = f();").contains(";"));
    EXPECT_FALSE(mutants_of("std::array<int, 3> slot{1};").contains(";"));
}

TEST(SourceMutation, SwapsArgumentsAndMovesNumbersAndComparisons) {
    EXPECT_TRUE(mutants_of("flush(tag, cpu.number);").contains("flush(cpu.number, tag);"));
    EXPECT_TRUE(mutants_of("if (i < 4) go();").contains("if (i <= 4) go();"));
    EXPECT_TRUE(mutants_of("if (i < 4) go();").contains("if (i < 5) go();"));
    EXPECT_TRUE(mutants_of("if (i < 4) go();").contains("if (i < 3) go();"));
    EXPECT_TRUE(mutants_of("x = 0x1'0U;").contains("x = 17U;"));
    EXPECT_TRUE(mutants_of("x |= 1;").contains("x &= 1;"));
    EXPECT_TRUE(mutants_of("const T x{.a = b + 1, .c = 2};").contains("const T x{.a = b - 1, .c = 2};"));
}

TEST(SourceMutation, TakesAnotherFieldOfTheSameType) {
    EXPECT_TRUE(mutants_of("put(field::guest_rip, 0);").contains("put(field::guest_rflags, 0);"));
    EXPECT_TRUE(mutants_of("put(field::guest_ia32_sysenter_eip, x);").contains("put(field::guest_cr0, x);"))
        << "the last one is followed by the first";
}

TEST(SourceMutation, LeavesAloneWhatDoesNothing) {
    for (const char* line :
         {"// if (a) b();", "static_assert(1 == 1);", "if constexpr (a == b) {}", "constexpr int x = 3;",
          "static constexpr int y = 3;", "using X = Y<3>;", "case 3: break;", "struct A { int b = 3; };"}) {
        EXPECT_EQ(mutants_of(line), std::set<std::string>{}) << line;
    }
    EXPECT_EQ(mutants_of("a = b;  // 5 == 5"), std::set<std::string>{";"});
    for (const char* text :
         {"#include \"a.hpp\"\n#define X(a) \\\n    a = 3;\n",
          "inline constexpr auto x = [] { return 3; }();\n", "consteval int f() { return 3; }\n",
          "enum class A { b = 3 };\n", "template <typename T>\nconcept C = requires(T& t) { { t.f(1) }; };\n",
          "struct A { int b = 3; };\n", "template <typename T, int N = 3>\nvoid f();\n",
          "namespace a = b::c;\nenum B { d = 3 };\n"}) {
        EXPECT_TRUE(mutations_of("a.hpp", text).empty()) << text;
    }
}

TEST(SourceMutation, FindsBodiesOfEveryKind) {
    for (const char* text : {"struct A {\n    void f() const noexcept { g(); }\n};\n",
                             "namespace a {\ntemplate <P Q>\nvoid A<Q>::f() {\n    g();\n}\n}\n",
                             "struct A final : private B<int> {\n    A() : a_(b), c_{d} { g(); }\n};\n",
                             "bool operator==(A, A) { g(); }\n", "A& operator=(A) { g(); }\n",
                             "auto f() -> int { g(); }\n", "struct A { bool b() const { g(); } };\n",
                             "template <typename T>\n    requires(sizeof(T) == 4)\nvoid f() { g(); }\n"}) {
        const auto all = mutations_of("a.hpp", text);
        EXPECT_TRUE(std::ranges::any_of(all, [](const SourceMutation& it) {
            return it.kind == std::string_view("statement dropped");
        })) << text;
    }
}

TEST(SourceMutation, IsMadeInItsLine) {
    const std::string text = "void f() {\n    a = 1;\n    a = 1;\n    a = 1;\n}\n";
    const auto all = mutations_of("a.hpp", text);
    const auto third =
        std::ranges::find_if(all, [](const SourceMutation& it) { return it.line == 4 && it.after == ";"; });
    ASSERT_NE(third, all.end());
    EXPECT_EQ(mutated(text, *third), "void f() {\n    a = 1;\n    a = 1;\n    ;\n}\n");
}

TEST(SourceMutation, IsTheSameForTheSameSeed) {
    const auto all =
        mutations_of("a.hpp", "void f() {\n    if (a && b) f(x, y);\n    if (c < 3) g(x, y);\n}\n");
    EXPECT_EQ(sample(all, 5, 1), sample(all, 5, 1));
    EXPECT_NE(sample(all, 5, 1), sample(all, 5, 2));
    EXPECT_EQ(sample(all, 1000, 1).size(), all.size());
    const auto more = sample(all, 8, 1);
    EXPECT_TRUE(std::ranges::equal(sample(all, 5, 1), std::span(more).first(5)));
}

// --- all of them in one build

std::vector<NumberedMutation> numbered(const std::string& text) {
    std::vector<NumberedMutation> all;
    for (const SourceMutation& each : mutations_of("a.hpp", text))
        all.push_back({static_cast<unsigned>(all.size() + 1), each});
    return all;
}

std::string without_lines(std::string text) {
    std::erase(text, '\n');
    return text;
}

TEST(SourceSchema, HasEachChangeBesideWhatItChanges) {
    EXPECT_EQ(without_lines(schema_of("void f() { g(); }", numbered("void f() { g(); }")).text),
              "#include \"judge/mutants/source/project/mutant.hpp\"void f() { "
              "{if (::flatback_mutants::is(1)) {;} else {g();}} }");
    const std::string condition = "void f() { if (a) return; }";
    EXPECT_EQ(without_lines(schema_of(condition, {numbered(condition)[1]}).text),
              "#include \"judge/mutants/source/project/mutant.hpp\"void f() { if ("
              "(::flatback_mutants::is(2) ? static_cast<bool>(false) : static_cast<bool>(a))) return; }");
}

TEST(SourceSchema, HasALambdasChangesInTheUnchangedStatement) {
    const std::string text = "void f() { x([] { g(); }); }";
    EXPECT_EQ(without_lines(schema_of(text, numbered(text)).text),
              "#include \"judge/mutants/source/project/mutant.hpp\"void f() { "
              "{if (::flatback_mutants::is(1)) {;} else {x([] { "
              "{if (::flatback_mutants::is(2)) {;} else {g();}} });}} }");
}

TEST(SourceSchema, TellsWhichChangeTheCompilerRefuses) {
    const std::string text = "void f() {\n    if (a == 3) g(b, c);\n}\n";
    const auto all = numbered(text);
    const SchemaFile schema = schema_of(text, all);
    const auto line_of = [&](const std::string& what) {
        const std::size_t at = schema.text.find(what);
        return std::to_string(1 + std::ranges::count(schema.text.substr(0, at), '\n'));
    };
    const auto refused = [&](const std::string& messages) {
        return refused_by_compiler(
            messages, [&](std::string_view path) { return path == "/s/a.hpp" ? &schema : nullptr; });
    };
    const auto swapped = std::ranges::find(all, std::string("if (a == 3) g(c, b);"),
                                           [](const NumberedMutation& it) { return it.mutation.after; });
    ASSERT_NE(swapped, all.end());
    EXPECT_EQ(refused("/s/a.hpp:" + line_of("g(c, b)") + ":9: error: no\n"), std::set{swapped->number});
    EXPECT_EQ(refused("/s/b.hpp:4:9:   required from 'x'\n/s/a.hpp:" + line_of("g(c, b)") +
                      ":9:   required from here\n/s/b.hpp:1:2: error: no\n"),
              std::set{swapped->number});
    EXPECT_EQ(refused("/s/a.hpp:" + line_of("g(c, b)") + ":9: note: there\n"), std::set<unsigned>{});
    EXPECT_GT(refused("/s/a.hpp:" + line_of("a == 3") + ":9: error: no\n").size(), 0U);
}

TEST(ReviewedMutations, AreBlocksOfFourLines) {
    std::istringstream text(
        "# what this is\n\na.hpp\nx = 1;\nx = 2;\nnobody reads x\n\nb.hpp#2\n;\n;\nwhy\n");
    const auto found = read_reviewed(text);
    ASSERT_EQ(found.size(), 2U);
    EXPECT_EQ(found[0].after, "x = 2;");
    EXPECT_EQ(found[0].which, 1U);
    EXPECT_EQ(found[1].file, "b.hpp");
    EXPECT_EQ(found[1].which, 2U);
    EXPECT_EQ(found[1].why, "why");
    std::istringstream bad("a.hpp\nx = 1;\n");
    EXPECT_THROW(read_reviewed(bad), std::runtime_error);
}

TEST(ReviewedMutations, AreOfTheSourcesAsTheyAre) {
    const std::filesystem::path sources = FLATBACK_SOURCE_DIRECTORY;
    std::ifstream list(sources / "judge/mutants/source/equivalent.txt");
    ASSERT_TRUE(list);
    for (const ReviewedMutation& each : read_reviewed(list)) {
        EXPECT_NE(find_reviewed(each, mutations_of(each.file, file_text(sources / each.file))), nullptr)
            << each.file << " has no such mutation any more, and equivalent.txt tells of it:\n"
            << each.before << "\n"
            << each.after;
    }
}

}  // namespace
}  // namespace flatback::machine::source_mutation_test
