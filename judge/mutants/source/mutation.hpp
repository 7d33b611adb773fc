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
    std::string before;  // the line, or the lines as one, without indent and comment
    std::string after;
    std::size_t offset = 0;  // what is replaced
    std::size_t length = 0;
    std::string with;
    std::size_t place = 0;  // of places_of() this text: the innermost one that it is in

    friend bool operator==(const SourceMutation&, const SourceMutation&) = default;
};

/// Every mutation of a file's text that is inside a place (places.hpp):
/// conditions negated or dropped, statements dropped, arguments swapped, numbers
/// and comparisons off by one, another field of the same type, another bit of
/// the same register, operators of the same precedence. What does not compile
/// is for the compiler to say.
[[nodiscard]] std::vector<SourceMutation> mutations_of(std::string_view file, std::string_view text);

/// The text with that change.
[[nodiscard]] std::string mutated(std::string_view text, const SourceMutation& mutation);

/// `count` of them in an order that the seed gives, each file and kind as often
/// as it has mutations. The first ones are the same for every count.
[[nodiscard]] std::vector<SourceMutation> sample(std::vector<SourceMutation> all, std::size_t count,
                                                 std::uint64_t seed);

}  // namespace flatback::machine
