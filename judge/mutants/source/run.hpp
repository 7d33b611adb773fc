#pragma once

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

#include "judge/mutants/source/mutation.hpp"

namespace flatback::machine {

struct SourceMutantsOptions {
    std::filesystem::path sources = ".";  // the root of the repository
    std::filesystem::path scratch;        // where the copy is built; kept, so that the
                                          // next run builds little
    std::vector<std::string> files{};     // only those whose path has one of these in it; empty: all
    std::size_t count = 20;
    std::uint64_t seed = 1;
    unsigned seconds = 60;  // for each test program of a mutant; one that takes longer is caught
};

/// A mutation that no test can tell from the source, and why:
/// judge/mutants/source/equivalent.txt.
struct ReviewedMutation {
    std::string file;
    std::string before;
    std::string after;
    std::string why;
};

/// Blocks of four lines (file, the line before, the line after, why) with empty
/// lines between; # begins a comment.
[[nodiscard]] std::vector<ReviewedMutation> read_reviewed(std::istream& in);

struct SourceMutantsResult {
    std::size_t caught = 0;
    std::size_t alive = 0;
    std::size_t equivalent = 0;
    std::size_t not_compiled = 0;  // no mutants: the compiler refuses them
};

/// Tries `count` mutants that compile, one after the other: each is written
/// into the scratch copy, built, and its tests run until one fails. One line of
/// `out` for each.
[[nodiscard]] SourceMutantsResult try_source_mutants(const SourceMutantsOptions& options, std::ostream& out);

}  // namespace flatback::machine
