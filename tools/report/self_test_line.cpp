#include "tools/report/self_test_line.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <utility>

namespace flatback::tools {
namespace {

using interface::self_test_mark;
using interface::self_test_values;

constexpr std::size_t checksum_digits = 8;
constexpr std::size_t parts_before_checksum = 7;

// Without what breaks it, in capitals.
std::string joined(std::string_view text) {
    std::string kept;
    for (const char character : text) {
        const auto byte = static_cast<unsigned char>(character);
        if (std::isspace(byte) == 0) kept += static_cast<char>(std::toupper(byte));
    }
    return kept;
}

std::vector<std::string_view> split(std::string_view text, char at) {
    std::vector<std::string_view> parts;
    for (;;) {
        const std::size_t end = text.find(at);
        parts.push_back(text.substr(0, end));
        if (end == std::string_view::npos) return parts;
        text.remove_prefix(end + 1);
    }
}

template <typename T>
std::optional<T> number_of(std::string_view digits, int base) {
    T number{};
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number, base);
    if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
    return number;
}

bool is_text(std::string_view text) {
    return !text.empty() && text.size() <= interface::self_test_most_text &&
           std::ranges::all_of(text, [](char character) {
               return std::isalnum(static_cast<unsigned char>(character)) != 0 || character == '-' ||
                      character == '.';
           });
}

// Of a line whose checksum is right: what is wrong then is another version's. nullopt: something is.
std::optional<SelfTestLine> read_parts(const std::vector<std::string_view>& parts) {
    SelfTestLine line{.version = std::string{parts[1]},
                      .processor = std::string{parts[3]},
                      .under = std::string{parts[4]},
                      .values = {}};
    const auto signature = number_of<std::uint32_t>(parts[2], 16);
    const std::vector<std::string_view> checks = split(parts[5], '.');
    const std::vector<std::string_view> values = split(parts[6], '.');
    if (!is_text(line.version) || !is_text(line.processor) || !is_text(line.under) || !signature ||
        checks.size() != 2 || values.size() > self_test_values.size())
        return std::nullopt;
    line.signature = *signature;
    const auto passed = number_of<std::uint64_t>(checks[0], 10);
    const auto failed = number_of<std::uint64_t>(checks[1], 10);
    if (!passed || !failed) return std::nullopt;
    line.passed = *passed;
    line.failed = *failed;
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (values[i] == "-") continue;
        line.values.at(i) = number_of<std::uint64_t>(values[i], 10);
        if (!line.values.at(i) || values[i].size() > interface::self_test_most_digits) return std::nullopt;
    }
    return line;
}

}  // namespace

Result<std::vector<SelfTestLine>> read_self_test_lines(std::string_view text, std::string_view name) {
    const std::string all = joined(text);
    std::vector<SelfTestLine> lines;
    const auto refuse = [&](std::string_view why) {
        return fail(ExitStatus::input_file, fmt::format("{}: self-test {}: {}", name, lines.size() + 1, why));
    };
    for (std::size_t from = all.find(self_test_mark); from != std::string::npos;
         from = all.find(self_test_mark, from + self_test_mark.size())) {
        std::string_view rest{all};
        rest.remove_prefix(from);
        rest = rest.substr(0, rest.find(self_test_mark, self_test_mark.size()));
        std::size_t end = 0;
        for (std::size_t part = 0; part < parts_before_checksum && end != std::string_view::npos; ++part)
            end = rest.find('/', part == 0 ? 0 : end + 1);
        if (end == std::string_view::npos || rest.size() < end + 1 + checksum_digits)
            return refuse("it is cut short, or a '/' is missing");
        const std::string_view content = rest.substr(0, end);
        const auto stated = number_of<std::uint32_t>(rest.substr(end + 1, checksum_digits), 16);
        if (!stated || *stated != interface::self_test_checksum(content))
            return refuse("its checksum does not fit: a character is wrong or missing");
        auto line = read_parts(split(content, '/'));
        if (!line) return refuse("it is of another version of Flatback");
        lines.push_back(*std::move(line));
    }
    if (lines.empty())
        return fail(ExitStatus::input_file,
                    fmt::format("{}: there is no line of a self-test in it (it begins with {}/)", name,
                                self_test_mark));
    return lines;
}

}  // namespace flatback::tools
