#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flatback::machine {

/// One small change of a C++ source, such as a person makes by mistake.
struct SourceMutation {
    std::string file;      // below the root of the sources
    std::size_t line = 0;  // from 1
    const char* kind = "";
    std::string before;  // the line, without what it is indented by
    std::string after;

    friend bool operator==(const SourceMutation&, const SourceMutation&) = default;
};

/// Every mutation of a file's text: conditions negated or dropped, statements
/// dropped, arguments swapped, numbers and comparisons off by one, another
/// field of the same type, another bit of the same register, operators of the
/// same precedence. Comments, includes, declarations and what is evaluated at
/// compile time are left alone, as far as lines tell. What does not compile is
/// for the compiler to say.
[[nodiscard]] std::vector<SourceMutation> mutations_of(std::string_view file, std::string_view text);

/// The text with that change.
[[nodiscard]] std::string mutated(std::string_view text, const SourceMutation& mutation);

/// `count` of them in an order that the seed gives, each file and kind as often
/// as it has mutations.
[[nodiscard]] std::vector<SourceMutation> sample(std::vector<SourceMutation> all, std::size_t count,
                                                 std::uint64_t seed);

}  // namespace flatback::machine
