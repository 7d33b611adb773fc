#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "guests/linux/failure.hpp"

namespace flatback::guests {

/// The words of a command line, taken one after the other. Programs that run in an initramfs are kept small:
/// no library for arguments, and no exceptions.
class WordReader final {
public:
    explicit WordReader(std::span<const std::string_view> words) : words_(words) {}

    [[nodiscard]] bool done() const { return words_.empty(); }

    /// The next word, which is an option. Not when done().
    [[nodiscard]] std::string_view next() {
        last_ = words_.front();
        words_ = words_.subspan(1);
        return last_;
    }

    /// What follows the option that next() gave.
    [[nodiscard]] Expected<std::string> value(std::string_view what) {
        if (words_.empty()) {
            return std::unexpected(std::string(last_) + " needs " + std::string(what));
        }
        const std::string_view word = words_.front();
        words_ = words_.subspan(1);
        return std::string(word);
    }

    [[nodiscard]] Expected<std::uint64_t> number(std::uint64_t least, std::uint64_t most) {
        const auto word = value("a number");
        if (!word) {
            return std::unexpected(word.error());
        }
        std::uint64_t result = 0;
        const auto [end, error] = std::from_chars(word->data(), word->data() + word->size(), result);
        if (error != std::errc{} || end != word->data() + word->size() || result < least || result > most) {
            return std::unexpected(std::string(last_) + " takes a number from " + std::to_string(least) +
                                   " to " + std::to_string(most) + ", not '" + *word + "'");
        }
        return result;
    }

private:
    std::span<const std::string_view> words_;
    std::string_view last_;
};

}  // namespace flatback::guests
