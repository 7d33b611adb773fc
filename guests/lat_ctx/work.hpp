#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace flatback::guests {

/// The words that process `process` sums on its turns: `kilobytes` of them, different in each process.
[[nodiscard]] std::vector<std::uint32_t> make_words(std::size_t kilobytes, unsigned process);

/// The sum of the words, one load and addition a word, as lmbench's lat_ctx sums; never by vectors, so that
/// the work is the same whatever the compiler.
[[nodiscard]] std::uint32_t sum_of(std::span<const std::uint32_t> words);

}  // namespace flatback::guests
