#include "guests/random/options.hpp"

namespace flatback::guests {
namespace {

bool is_digit(char character) {
    return character >= '0' && character <= '9';
}

std::uint64_t decimal(std::string_view text, bool& good) {
    std::uint64_t value = 0;
    if (text.empty()) good = false;
    for (const char character : text) {
        if (!is_digit(character)) good = false;
        value = value * 10 + static_cast<std::uint64_t>(character - '0');
    }
    return value;
}

// The text up to the character, or all of it, is taken from its front, with the character.
std::string_view take_until(std::string_view& text, char character) {
    std::size_t end = 0;
    while (end < text.size() && text[end] != character) ++end;
    const std::string_view taken{text.data(), end};
    text.remove_prefix(end < text.size() ? end + 1 : end);
    return taken;
}

void take(std::string_view word, Options& options) {
    std::string_view value = word;
    const std::string_view name = take_until(value, '=');
    if (name == "seed") {
        options.seed = decimal(value, options.good);
    } else if (name == "first") {
        options.first = decimal(value, options.good);
    } else if (name == "cases") {
        options.cases = decimal(value, options.good);
    } else if (name == "steps") {
        options.steps = decimal(value, options.good);
        if (options.steps > most_steps) options.good = false;
    } else if (name == "masks") {
        options.variants = 0;
        while (!value.empty() && options.variants < most_variants)
            options.masks[options.variants++] = take_hexadecimal(value);
    } else if (name == "without") {
        options.without = value;
    } else if (name == "promise") {
        options.promise = value;
    } else if (word == "everything") {
        options.everything = true;
    } else if (name == "everything") {
        options.everything_of = decimal(value, options.good);
    } else if (!word.starts_with('/')) {  // some loaders put the file's path first
        options.good = false;
    }
}

}  // namespace

std::uint64_t take_hexadecimal(std::string_view& text) {
    std::uint64_t value = 0;
    while (!text.empty()) {
        const char character = text.front();
        text.remove_prefix(1);
        if (is_digit(character))
            value = value << 4 | static_cast<std::uint64_t>(character - '0');
        else if (character >= 'a' && character <= 'f')
            value = value << 4 | static_cast<std::uint64_t>(character - 'a' + 10);
        else
            break;
    }
    return value;
}

Options parse_options(std::string_view command_line) {
    Options options;
    while (!command_line.empty()) {
        const std::string_view word = take_until(command_line, ' ');
        if (!word.empty()) take(word, options);
    }
    return options;
}

}  // namespace flatback::guests
