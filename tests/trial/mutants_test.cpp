// Every defective L0 is caught, and a correct one is not.
#include "judge/mutants/mutants.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <sstream>
#include <string>

#include "judge/ledger/ledger_rows.hpp"

namespace flatback::machine::mutants_test {
namespace {

// Random programs, at most.
constexpr std::size_t programs = 600;

TEST(Mutants, AreAllCaught) {
    for (const Mutant& mutant : mutants()) {
        EXPECT_FALSE(try_mutant(mutant, programs).caught_by.empty()) << mutant.name << " lives";
    }
}

TEST(Mutants, ADefectThatChangesNothingIsNotCaught) {
    Mutant none{"none", std::nullopt, [] { return std::make_unique<Defect>(); }};
    EXPECT_EQ(try_mutant(none, 20).caught_by, "");
    // As many as the others get: what differs without a defect would catch any of them.
    none.of_modes = true;
    EXPECT_EQ(try_mutant(none, programs).caught_by, "");
    none.of_modes = false;
    none.of_random_host = true;
    EXPECT_EQ(try_mutant(none, programs).caught_by, "");
    none.of_saved_states = true;
    EXPECT_EQ(try_mutant(none, programs).caught_by, "");
}

TEST(Mutants, EveryRowOfTheLedgerHasOneThatItsOwnTestCatches) {
    std::set<unsigned> rows;
    for (const Mutant& mutant : mutants()) {
        if (!mutant.ledger_row) continue;
        char suite[16];
        std::snprintf(suite, sizeof suite, "LedgerRow%02u.", *mutant.ledger_row);
        if (try_mutant(mutant, 0).caught_by.starts_with(suite)) rows.insert(*mutant.ledger_row);
    }
    for (const LedgerRow& each : ledger_rows()) EXPECT_TRUE(rows.contains(each.row)) << "row " << each.row;
}

TEST(Mutants, AtLeast25AreBeyondTheLedger) {
    EXPECT_GE(std::ranges::count_if(mutants(), [](const Mutant& it) { return !it.ledger_row; }), 25);
}

TEST(Mutants, AtLeast30AreOfAHostThatWantsThingsForItself) {
    EXPECT_GE(std::ranges::count_if(mutants(), [](const Mutant& it) { return it.of_random_host; }), 30);
}

TEST(Mutants, AtLeast20AreOfExternalInterrupts) {
    EXPECT_GE(std::ranges::count_if(mutants(), [](const Mutant& it) { return it.of_interrupts; }), 20);
}

TEST(Mutants, AtLeast10AreOfSeveralProcessors) {
    EXPECT_GE(std::ranges::count_if(mutants(), [](const Mutant& it) { return it.of_processors; }), 10);
}

TEST(Mutants, AtLeast12AreOfLogsAndScaling) {
    EXPECT_GE(std::ranges::count_if(mutants(), [](const Mutant& it) { return it.of_logs; }), 12);
}

TEST(Mutants, AtLeast12AreOfSavedStates) {
    EXPECT_GE(std::ranges::count_if(mutants(), [](const Mutant& it) { return it.of_saved_states; }), 12);
}

TEST(Mutants, ADefectThatChangesNothingIsNotCaughtUnderARandomHost) {
    for (const bool saves_states : {false, true}) {
        const Mutant none{"none", std::nullopt, [] { return std::make_unique<Defect>(); }, true,
                          saves_states};
        EXPECT_EQ(try_mutant(none, 20).caught_by, "");
    }
}

TEST(Mutants, HaveNamesOfTheirOwn) {
    std::set<std::string> names;
    for (const Mutant& mutant : mutants()) EXPECT_TRUE(names.insert(mutant.name).second) << mutant.name;
}

TEST(Mutants, AreWrittenAsJson) {
    std::ostringstream out;
    write_json(out, {{"drops", 3, "Suite.Case"}, {"lives", std::nullopt, ""}});
    EXPECT_EQ(out.str(),
              "{\n  \"mutants\": [\n"
              "    {\"name\": \"drops\", \"ledger_row\": 3, \"caught_by\": \"Suite.Case\"},\n"
              "    {\"name\": \"lives\", \"ledger_row\": null, \"caught_by\": null}\n"
              "  ]\n}\n");
}

}  // namespace
}  // namespace flatback::machine::mutants_test
