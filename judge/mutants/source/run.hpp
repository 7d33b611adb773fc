#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

#include "judge/mutants/source/mutation.hpp"

namespace flatback::machine {

inline constexpr std::size_t most_source_mutants = 60'000;  // of one build (project/mutant.hpp)

struct SourceMutantsOptions {
    std::filesystem::path sources = ".";  // the root of the repository
    std::filesystem::path scratch;        // where the copy is built; kept, so that the
                                          // next run builds little
    std::vector<std::string> files{};     // only those whose path has one of these in it; empty: all
    // By which tests: project/CMakeLists.txt.
    std::vector<std::string> programs = {"tag_mutant",  "checks_mutant", "nested_mutant",
                                         "host_mutant", "trial_mutant",  "model_mutant"};
    std::size_t count = 300;
    std::uint64_t seed = 1;
    unsigned jobs = 0;             // at once; 0: as many as there are processors
    std::vector<unsigned> only{};  // of the `count` only these; empty: all
};

/// A mutation that no test can tell from the source, and why:
/// judge/mutants/source/equivalent.txt.
struct ReviewedMutation {
    std::string file;
    std::size_t which = 1;  // of several in the file that read alike, from 1
    std::string before;
    std::string after;
    std::string why;
};

/// Blocks of four lines (file, the line before, the line after, why) with empty
/// lines between; # begins a comment. "file#2" is the second one of that file
/// that reads so.
[[nodiscard]] std::vector<ReviewedMutation> read_reviewed(std::istream& in);

/// The one that it is about, of all mutations of its file in their order; nullptr: none.
[[nodiscard]] const SourceMutation* find_reviewed(const ReviewedMutation& reviewed,
                                                  const std::vector<SourceMutation>& of_file);

struct SourceMutantsResult {
    std::size_t caught = 0;
    std::size_t alive = 0;
    std::size_t equivalent = 0;
    std::size_t refused = 0;  // no mutants: they do not compile
};

/// Builds the test programs once with `count` mutations in them, finds which
/// test reaches which, and tries each by the tests that reach it, in a process
/// of its own. Some lines of `out` for each.
[[nodiscard]] SourceMutantsResult try_source_mutants(const SourceMutantsOptions& options, std::ostream& out);

}  // namespace flatback::machine
