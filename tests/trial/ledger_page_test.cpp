// docs/ledger.md is made from the table of the ledger's rows (judge/ledger/ledger_rows.cpp), the names of
// tests in the sources, and the mutants. FLATBACK_WRITE_LEDGER=1 writes it anew; without it the page must be
// what would be written.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "judge/ledger/ledger.hpp"
#include "judge/ledger/ledger_rows.hpp"
#include "judge/mutants/mutants.hpp"

namespace flatback::machine::ledger_page_test {
namespace {

namespace fs = std::filesystem;

const fs::path source = FLATBACK_SOURCE_DIRECTORY;
const fs::path page = source / "docs/ledger.md";

std::string read(const fs::path& file) {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    return text.str();
}

// What judges a row: the same program bare and nested, or a host test of the engine or of the tags alone.
struct RowTests {
    std::vector<std::string> programs, engine, tags;

    [[nodiscard]] std::size_t count() const { return programs.size() + engine.size() + tags.size(); }
};

// A suite of a row (LedgerRow07) or a row in the name (Ledger.Row07_..., LedgerExhausted.Row14_...,
// Row16And20_...).
std::map<unsigned, RowTests> tests_by_row() {
    static const std::regex of_a_suite(R"(TEST\(LedgerRow(\d+), (\w+)\))");
    static const std::regex of_a_name(R"((?:TEST|TEST_F)\((Ledger\w*), (Row(\d+)(?:And(\d+))?_\w+)\))");
    std::map<unsigned, RowTests> found;
    for (const char* folder : {"trial", "nested", "tag"}) {
        const auto list = [&](RowTests& tests) -> std::vector<std::string>& {
            return folder[0] == 'n' ? tests.engine : folder[1] == 'a' ? tests.tags : tests.programs;
        };
        std::set<fs::path> files;  // in the order of their names
        for (const auto& entry : fs::directory_iterator(source / "tests" / folder))
            files.insert(entry.path());
        for (const fs::path& file : files) {
            if (file.extension() != ".cpp") continue;
            // A test's name may be broken off from its suite.
            const std::string text = std::regex_replace(read(file), std::regex(",\\s+"), ", ");
            for (std::sregex_iterator it(text.begin(), text.end(), of_a_suite), end; it != end; ++it)
                list(found[static_cast<unsigned>(std::stoul((*it)[1]))])
                    .push_back("LedgerRow" + (*it)[1].str() + "." + (*it)[2].str());
            for (std::sregex_iterator it(text.begin(), text.end(), of_a_name), end; it != end; ++it) {
                for (const std::size_t group : {std::size_t{3}, std::size_t{4}}) {
                    if ((*it)[group].matched)
                        list(found[static_cast<unsigned>(std::stoul((*it)[group]))])
                            .push_back((*it)[1].str() + "." + (*it)[2].str());
                }
            }
        }
    }
    return found;
}

std::vector<std::string> mutants_of(unsigned row) {
    std::vector<std::string> names;
    for (const Mutant& mutant : mutants()) {
        if (mutant.ledger_row == row) names.push_back(mutant.name);
    }
    return names;
}

void list(std::ostream& out, const char* what, const std::vector<std::string>& names, const char* quote) {
    if (names.empty()) return;
    out << "- " << what << ": ";
    for (std::size_t index = 0; index < names.size(); ++index)
        out << (index == 0 ? "" : index % 2 == 0 ? ",\n  " : ", ") << quote << names[index] << quote;
    out << "\n";
}

std::string anchor(const LedgerRow& row) {
    std::string text = "row-";
    return text + std::to_string(row.row);
}

std::string written() {
    const auto tests = tests_by_row();
    std::size_t test_count = 0;
    std::size_t mutant_count = 0;
    for (const auto& [row, of_row] : tests) test_count += of_row.count();
    for (const Mutant& mutant : mutants()) mutant_count += mutant.ledger_row.has_value() ? std::size_t{1} : 0;
    std::ostringstream out;
    out << R"(# The ledger: how nested VPID goes wrong

A hypervisor that lets its guests be hypervisors gives each of them VPIDs of their own, and has to map them onto the real ones of
the processor. What the mapping gets wrong no test of a guest's sees: a translation that should be gone is wrong only when it is
used, and it is used only when it has not been evicted. So the same mistakes were made for ten years, in every hypervisor that
tried, and found one at a time: by a fuzzer, by an auditor, by a customer's guest that read another's page.

This is the list, as far as it is public: )"
        << ledger_rows().size()
        << " rows. Each has the rule that makes it impossible here, the tests that show it\n(" << test_count
        << "), and defective hypervisors that make the very mistake (" << mutant_count
        << R"(), each of which its row's test must catch: a test that has never
failed proves little.

- A *program* is an L1 that runs on a software processor whose TLB forgets nothing, once bare and once on the engine; every outcome
  that an access may have must be the same ([trial.md](trial.md)). `build/tests/trial/trial_tests --gtest_filter='LedgerRow17.*'`
- *Engine* and *tags* are host tests of the engine with a fake processor, and of the tag manager alone.
- A *mutant* is an L0 with the mistake put back in: `./flatback machine mutants`.

| # | year | where | what | about |
|---|---|---|---|---|
)";
    for (const LedgerRow& row : ledger_rows()) {
        out << "| [" << row.row << "](#" << anchor(row) << ") | " << row.year << " | " << row.where << " | "
            << row.title << " | " << name_of(row.theme) << " |\n";
    }
    for (unsigned theme = 0; theme <= static_cast<unsigned>(LedgerTheme::cost); ++theme) {
        out << "\n## " << name_of(static_cast<LedgerTheme>(theme)) << "\n";
        for (const LedgerRow& row : ledger_rows()) {
            if (static_cast<unsigned>(row.theme) != theme) continue;
            out << "\n<a id=\"" << anchor(row) << "\"></a>\n### " << row.row << ". " << row.title << "\n*"
                << row.year << ", " << row.where << ".* " << row.what_went_wrong << "\n\n**" << row.rule
                << "**\n\n";
            const auto found = tests.find(row.row);
            if (found != tests.end()) {
                list(out, "programs", found->second.programs, "`");
                list(out, "engine", found->second.engine, "`");
                list(out, "tags", found->second.tags, "`");
            }
            list(out, "mutants", mutants_of(row.row), "\"");
        }
    }
    out << R"(
## A new row

1. One line in `judge/ledger/ledger_rows.cpp`: the year, where it was seen, what went wrong, the rule.
2. A program in `judge/ledger/ledger.cpp`, and `TEST(LedgerRowNN, ItsName)` in `tests/trial/ledger_test.cpp`; where only L0 can see it, a
   host test `Ledger.RowNN_ItsName`.
3. The mistake itself: a line in `judge/mutants/mutant_table.cpp` with the row's number.
4. `FLATBACK_WRITE_LEDGER=1 build/tests/trial/trial_tests --gtest_filter='LedgerPage.*'` writes this page.

A row without a test, without a mutant that its own test catches, or with a page that is not up to date fails the tests.
)";
    return out.str();
}

TEST(LedgerPage, IsWhatTheTableTheTestsAndTheMutantsSay) {
    if (std::getenv("FLATBACK_WRITE_LEDGER") != nullptr) std::ofstream(page) << written();
    EXPECT_EQ(read(page), written()) << "FLATBACK_WRITE_LEDGER=1 writes it anew";
}

TEST(LedgerPage, EveryRowHasAProgramOrATestAndAMutant) {
    const auto tests = tests_by_row();
    unsigned expected = 1;
    std::set<unsigned> rows;
    for (const LedgerRow& row : ledger_rows()) {
        EXPECT_EQ(row.row, expected++) << "rows count up, so that a number names one for ever";
        rows.insert(row.row);
        EXPECT_TRUE(tests.contains(row.row)) << row.title;
        EXPECT_FALSE(mutants_of(row.row).empty()) << row.title;
        for (const std::string_view text : {row.year, row.where, row.title, row.what_went_wrong, row.rule})
            EXPECT_FALSE(text.empty()) << row.title;
    }
    for (const auto& [row, of_row] : tests)
        EXPECT_TRUE(rows.contains(row)) << "tests of a row " << row << " that is not there";
    for (const LedgerCase& each : ledger())
        EXPECT_TRUE(each.row == 0 || rows.contains(each.row)) << each.name;
    for (const Mutant& mutant : mutants())
        EXPECT_TRUE(!mutant.ledger_row || rows.contains(*mutant.ledger_row)) << mutant.name;
}

// A program of the ledger that no TEST runs would be judged by nobody but the mutants.
TEST(LedgerPage, EveryProgramIsATest) {
    const std::string text = read(source / "tests/trial/ledger_test.cpp");
    std::vector<LedgerCase> about_events = nmi_cases();  // nmi_test.cpp and interrupt_test.cpp run all
    for (LedgerCase& each : interrupt_cases()) about_events.push_back(std::move(each));
    const auto is_one = [&](const LedgerCase& which) {
        return std::ranges::any_of(about_events, [&](const LedgerCase& it) { return it.name == which.name; });
    };
    for (const LedgerCase& each : ledger()) {
        if (is_one(each)) continue;
        EXPECT_NE(text.find("expect_holds(\"" + each.name + "\")"), std::string::npos) << each.name;
    }
}

}  // namespace
}  // namespace flatback::machine::ledger_page_test
