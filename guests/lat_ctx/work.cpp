#include "guests/lat_ctx/work.hpp"

namespace flatback::guests {

std::vector<std::uint32_t> make_words(std::size_t kilobytes, unsigned process) {
    std::vector<std::uint32_t> words(kilobytes * 1024 / sizeof(std::uint32_t));
    std::uint32_t next = 0x9E37'79B9U * (process + 1);
    for (std::uint32_t& word : words) {
        next = next * 1'664'525U + 1'013'904'223U;  // any sequence whose sum tells processes apart
        word = next;
    }
    return words;
}

std::uint32_t sum_of(std::span<const std::uint32_t> words) {
    // Long runs without a branch: a word is one addition with a memory operand, and the loop is one percent.
    constexpr std::size_t unrolled = 256;
    std::uint32_t sum = 0;
    std::size_t at = 0;
    for (; at + unrolled <= words.size(); at += unrolled) {
        const std::uint32_t* const block = words.data() + at;
#pragma GCC unroll 256
        for (std::size_t i = 0; i < unrolled; ++i) {
            sum += block[i];
        }
    }
    for (; at < words.size(); ++at) {
        sum += words[at];
    }
    return sum;
}

}  // namespace flatback::guests
