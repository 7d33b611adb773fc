#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace flatback::machine {

struct RecordedTest {
    std::size_t program = 0;  // which one
    std::string name;
    unsigned long microseconds = 0;
};

/// What became of one mutant.
struct MutantVerdict {
    bool reached = false;
    std::string caught_by;  // empty: by no test
};

/// The tests of the programs of a SchemaBuild: how long each takes and which
/// mutants each reaches, from one run without a mutant.
class RecordedTests {
public:
    /// Runs them. Throws std::runtime_error where one fails.
    RecordedTests(const std::filesystem::path& directory, const std::vector<std::string>& programs,
                  const std::filesystem::path& scratch, unsigned jobs);
    [[nodiscard]] const std::vector<RecordedTest>& tests() const { return tests_; }

    /// Runs the tests that reach it, the quick ones first, until one fails.
    /// `thorough`: then, where none did, the whole programs, for what a test finds
    /// that an earlier one left behind. May be called by several threads at once,
    /// each with a `worker` of its own.
    [[nodiscard]] MutantVerdict try_mutant(unsigned number, bool thorough, unsigned worker) const;

private:
    void record(std::size_t program, const std::filesystem::path& file);
    [[nodiscard]] const std::vector<std::size_t>& of_mutant(unsigned number) const;
    [[nodiscard]] std::string failing(std::size_t program, const std::vector<std::size_t>& tests,
                                      unsigned number, unsigned worker) const;

    std::filesystem::path directory_;
    std::vector<std::string> programs_;
    std::filesystem::path scratch_;
    std::vector<RecordedTest> tests_;
    std::vector<std::vector<std::size_t>> by_mutant_;  // indices of tests_
};

}  // namespace flatback::machine
