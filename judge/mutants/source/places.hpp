#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "judge/mutants/source/tokens.hpp"

namespace flatback::machine {

/// A piece of a function's body that can stand beside a changed copy of itself,
/// one of which is chosen when the program runs.
struct Place {
    enum class Kind : std::uint8_t {
        statement,   // with its semicolon; to be dropped as a whole, too
        answer,      // a return statement
        condition,   // of if, while, for
        expression,  // an initialiser or an argument of one
    };
    Kind kind = Kind::statement;
    std::size_t first = 0;  // tokens, from this one
    std::size_t end = 0;    // to before this one
};

struct Places {
    /// In the order of their beginnings; one that is inside another (a lambda's
    /// statements) behind it.
    std::vector<Place> all;
    /// By token: the innermost place that it is a part of; no_place: none.
    std::vector<std::size_t> of_token;
    static constexpr std::size_t no_place = ~std::size_t{0};
};

/// Only bodies of functions, and of those only what is done when the program
/// runs: no constexpr variables, if constexpr, static_assert, labels, types. A
/// parser of the C++ that is written here, not of all C++: what it takes for a
/// place and is none, the compiler refuses.
[[nodiscard]] Places places_of(const SourceTokens& tokens);

}  // namespace flatback::machine
