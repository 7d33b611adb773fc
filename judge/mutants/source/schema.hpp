#pragma once

#include <cstddef>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "judge/mutants/source/mutation.hpp"

namespace flatback::machine {

/// A mutation, and the number by which it is chosen when the program runs; from 1.
struct NumberedMutation {
    unsigned number = 0;
    SourceMutation mutation;
};

/// A file in which every mutation stands beside what it changes, and the one
/// whose number is the active one is done (project/mutant.hpp).
struct SchemaFile {
    std::string text;
    /// By line of the text, from 0: which mutations are to go where the compiler
    /// refuses it.
    std::vector<std::vector<unsigned>> blamed;
};

/// `mutations` are of this text.
[[nodiscard]] SchemaFile schema_of(std::string_view text, const std::vector<NumberedMutation>& mutations);

/// Which mutations GCC's messages are about. `file_of`: the schema of a path
/// as the compiler writes it; nullptr: it has none.
[[nodiscard]] std::set<unsigned> refused_by_compiler(
    std::string_view messages, const std::function<const SchemaFile*(std::string_view path)>& file_of);

}  // namespace flatback::machine
