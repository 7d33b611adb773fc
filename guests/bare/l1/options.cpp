#include "guests/bare/l1/options.hpp"

namespace flatback::guests {
namespace {

constexpr std::string_view only_prefix = "only=";
constexpr std::string_view iterations_prefix = "iterations=";
constexpr std::string_view skip_prefix = "skip=";
constexpr std::string_view limit_prefix = "limit=";
constexpr std::uint64_t most_seconds = 50;  // the alarm tells seconds of a minute apart

// 0 for what is not a number from 1 to 1,000,000.
std::uint64_t number_of(std::string_view text) {
    std::uint64_t value = 0;
    for (const char character : text) {
        if (character < '0' || character > '9' || value > 1'000'000) return 0;
        value = value * 10 + static_cast<std::uint64_t>(character - '0');
    }
    return value > 1'000'000 ? 0 : value;
}

}  // namespace

Options::Options(std::string_view command_line) {
    std::size_t at = 0;
    while (at < command_line.size()) {
        std::size_t end = at;
        while (end < command_line.size() && command_line[end] != ' ') ++end;
        if (end > at) take(command_line.substr(at, end - at));
        at = end + 1;
    }
}

bool Options::skips(std::string_view name) const {
    std::size_t at = 0;
    while (at < skip_.size()) {
        std::size_t end = at;
        while (end < skip_.size() && skip_[end] != ',') ++end;
        if (std::string_view{skip_.data() + at, end - at} == name) return true;
        at = end + 1;
    }
    return false;
}

void Options::take(std::string_view word) {
    if (word == "check") {
        check_ = true;
    } else if (word == "bench") {
        bench_ = true;
    } else if (word == "registers") {
        registers_ = true;
    } else if (word.starts_with(only_prefix)) {
        only_ = word.substr(only_prefix.size());
    } else if (word.starts_with(iterations_prefix)) {
        iterations_ = number_of(word.substr(iterations_prefix.size()));
        if (iterations_ == 0) good_ = false;
    } else if (word.starts_with(skip_prefix)) {
        skip_ = word;
        skip_.remove_prefix(skip_prefix.size());
    } else if (word.starts_with(limit_prefix)) {
        const std::uint64_t seconds = number_of(word.substr(limit_prefix.size()));
        if (seconds == 0 || seconds > most_seconds) good_ = false;
        limit_ = static_cast<unsigned>(seconds);
    } else if (word == "everywhere") {
        everywhere_ = true;
    } else if (word == "emulator=bochs") {
        on_bochs_ = true;
    } else if (word == "screen") {
        screen_ = true;
    } else if (word == "rules") {
        rules_ = true;
    } else if (!word.starts_with('/')) {  // some loaders put the file's path first
        good_ = false;
    }
}

}  // namespace flatback::guests
