#include "tools/check/random_log.hpp"

#include <algorithm>
#include <charconv>

namespace flatback::tools {
namespace {

// Takes a number and the character behind it from the front of the text.
bool take_number(std::string_view& text, char behind, std::uint64_t& number) {
    const char* const end = text.data() + text.size();
    const auto [stopped, code] = std::from_chars(text.data(), end, number);
    if (code != std::errc{} || stopped == end || *stopped != behind) return false;
    text.remove_prefix(static_cast<std::size_t>(stopped - text.data()) + 1);
    return true;
}

std::optional<RandomLine> parse_line(std::string_view line) {
    RandomLine parsed;
    if (!take_number(line, '/', parsed.case_number) || !take_number(line, '.', parsed.variant) ||
        !take_number(line, ' ', parsed.step))
        return std::nullopt;
    parsed.text = line;
    return parsed;
}

std::string_view take_word(std::string_view& text) {
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(end);
    return word;
}

bool same_variant(const RandomLine& left, const RandomLine& right) {
    return left.case_number == right.case_number && left.variant == right.variant;
}

bool earlier(const RandomLine& left, const RandomLine& right) {
    return left.case_number != right.case_number ? left.case_number < right.case_number
                                                 : left.variant < right.variant;
}

}  // namespace

std::vector<RandomLine> parse_random_log(std::string_view console) {
    std::vector<RandomLine> lines;
    while (!console.empty()) {
        const std::size_t end = console.find('\n');
        if (end == std::string_view::npos) break;
        if (auto line = parse_line(console.substr(0, end))) lines.push_back(std::move(*line));
        console.remove_prefix(end + 1);
    }
    return lines;
}

std::vector<RandomDifference> differences(const std::vector<RandomLine>& under_l0,
                                          const std::vector<RandomLine>& directly) {
    std::vector<RandomDifference> found;
    auto left = under_l0.begin();
    auto right = directly.begin();
    while (left != under_l0.end() && right != directly.end()) {
        if (*left == *right) {
            ++left;
            ++right;
            continue;
        }
        RandomDifference difference;
        const RandomLine& first = earlier(*right, *left) ? *right : *left;
        difference.case_number = first.case_number;
        difference.variant = first.variant;
        difference.step = first.step;
        if (same_variant(*left, first)) difference.under_l0 = left->text;
        if (same_variant(*right, first)) difference.directly = right->text;
        const RandomLine at = first;
        found.push_back(std::move(difference));
        const auto behind = [&at](const RandomLine& line) { return earlier(at, line); };
        left = std::find_if(left, under_l0.end(), behind);
        right = std::find_if(right, directly.end(), behind);
    }
    return found;
}

std::string mark_of(const RandomDifference& difference) {
    std::string_view left = difference.under_l0;
    std::string_view right = difference.directly;
    std::string mark{take_word(left)};
    if (mark != take_word(right)) return mark + " or another line";
    while (!left.empty() || !right.empty()) {
        const std::string_view one = take_word(left);
        const std::string_view other = take_word(right);
        if (one == other) continue;
        mark += ' ';
        mark += one.substr(0, one.find('='));
        if (one.substr(0, one.find('=')) != other.substr(0, other.find('='))) {
            mark += " or ";
            mark += other.substr(0, other.find('='));
        }
        return mark;
    }
    return mark;
}

}  // namespace flatback::tools
