#include "guests/linux/record.hpp"

#include <termios.h>
#include <unistd.h>

#include <algorithm>

namespace flatback::guests {

std::string format_ratio(std::uint64_t numerator, std::uint64_t denominator) {
    if (denominator == 0) {
        return "0";
    }
    const std::uint64_t thousandths = (numerator * 1000 + denominator / 2) / denominator;
    std::string text = std::to_string(thousandths / 1000);
    std::string decimals = std::to_string(1000 + thousandths % 1000).substr(1);
    while (!decimals.empty() && decimals.back() == '0') {
        decimals.pop_back();
    }
    return decimals.empty() ? text : text + "." + decimals;
}

std::string format_record(std::string_view kind, std::string_view rest) {
    std::string line = "FLATBACK ";
    line.append(kind);
    if (!rest.empty()) {
        line.append(" ").append(rest);
    }
    std::ranges::replace_if(
        line, [](char c) { return c == '\n' || c == '\r'; }, ' ');
    return line;
}

void print_line(std::string_view line) {
    const std::string whole = std::string(line) + "\n";
    std::string_view left = whole;
    while (!left.empty()) {
        const ssize_t written = ::write(STDOUT_FILENO, left.data(), left.size());
        if (written <= 0) {
            return;  // nobody to tell: the missing record is itself the failure
        }
        left.remove_prefix(static_cast<std::size_t>(written));
    }
    ::tcdrain(STDOUT_FILENO);  // fails on a pipe or file, where there is nothing to wait for
}

void print_record(std::string_view kind, std::string_view rest) {
    print_line(format_record(kind, rest));
}

void print_value(std::string_view key, std::uint64_t value) {
    print_record("value", std::string(key) + " " + std::to_string(value));
}

void print_text(std::string_view key, std::string_view text) {
    print_record("text", std::string(key) + " " + std::string(text));
}

}  // namespace flatback::guests
