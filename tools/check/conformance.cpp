#include "tools/check/conformance.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

namespace flatback::tools {
namespace {

constexpr std::string_view key_prefix = "result.";
constexpr std::string_view cost_prefix = "bare_l1.";
constexpr std::array outcomes{ConformanceOutcome::passed, ConformanceOutcome::failed,
                              ConformanceOutcome::not_offered, ConformanceOutcome::platform_fault};

// The fields between the bars; the last one takes the rest.
template <std::size_t Count>
std::optional<std::array<std::string_view, Count>> fields_of(std::string_view text) {
    std::array<std::string_view, Count> fields;
    for (std::size_t index = 0; index + 1 < Count; ++index) {
        const std::size_t bar = text.find('|');
        if (bar == std::string_view::npos) return std::nullopt;
        fields[index] = text.substr(0, bar);
        text.remove_prefix(bar + 1);
    }
    fields[Count - 1] = text;
    return fields;
}

// The numbers of a section in their order: "3C 27.2.1" is 3, 27, 2, 1.
std::vector<unsigned> numbers_in(std::string_view section) {
    std::vector<unsigned> numbers;
    const char* at = section.data();
    const char* const end = at + section.size();
    while (at != end) {
        unsigned number = 0;
        const auto [behind, error] = std::from_chars(at, end, number);
        if (error == std::errc{}) numbers.push_back(number);
        at = behind == at ? at + 1 : behind;
    }
    return numbers;
}

// Counts for one exit and figures in hundredths are no costs of an operation.
bool is_cost(std::string_view key) {
    return key.starts_with(cost_prefix) && !key.ends_with("_x100") && !key.contains("per_");
}

}  // namespace

std::string_view name(ConformanceOutcome outcome) {
    switch (outcome) {
        case ConformanceOutcome::passed:
            return "passed";
        case ConformanceOutcome::failed:
            return "failed";
        case ConformanceOutcome::not_offered:
            return "not_offered";
        case ConformanceOutcome::platform_fault:
            return "platform_fault";
    }
    return {};
}

std::size_t Conformance::count(ConformanceOutcome outcome) const {
    return static_cast<std::size_t>(std::ranges::count(results, outcome, &ConformanceResult::outcome));
}

bool section_before(std::string_view left, std::string_view right) {
    const auto numbers = std::pair{numbers_in(left), numbers_in(right)};
    return numbers.first != numbers.second ? numbers.first < numbers.second : left < right;
}

std::optional<ConformanceResult> conformance_result(std::string_view key, std::string_view text) {
    if (!key.starts_with(key_prefix) || key == key_prefix) return std::nullopt;
    const auto fields = fields_of<6>(text);
    if (!fields) return std::nullopt;
    const auto& [outcome, section, row, rule, expected, seen] = *fields;
    const auto* const known = std::ranges::find(outcomes, outcome, [](auto each) { return name(each); });
    if (known == outcomes.end()) return std::nullopt;
    unsigned number = 0;
    const auto [end, error] = std::from_chars(row.data(), row.data() + row.size(), number);
    if (error != std::errc{} || end != row.data() + row.size()) return std::nullopt;
    return ConformanceResult{.name = std::string{key.substr(key_prefix.size())},
                             .outcome = *known,
                             .section = std::string{section},
                             .ledger_row = number == 0 ? std::nullopt : std::optional{number},
                             .rule = std::string{rule},
                             .expected = std::string{expected},
                             .seen = std::string{seen}};
}

Conformance conformance_of(std::string_view under, const Transcript& transcript) {
    Conformance found;
    found.under = under;
    std::set<std::string, std::less<>> told;
    for (const auto& [key, text] : transcript.texts()) {
        if (key == "bare_l1.under") found.beneath = text;
        if (auto result = conformance_result(key, text)) {
            told.insert(result->name);
            found.results.push_back(std::move(*result));
        }
    }
    for (const CheckRecord& check : transcript.checks()) {
        if (check.passed || told.contains(check.name)) continue;
        ConformanceResult result;
        result.name = check.name;
        result.seen = check.why;
        found.results.push_back(std::move(result));
    }
    std::ranges::stable_sort(found.results, [](const auto& left, const auto& right) {
        if (left.section != right.section) return section_before(left.section, right.section);
        return left.name < right.name;
    });
    for (const auto& [key, number] : transcript.values()) {
        if (is_cost(key)) found.costs[key.substr(cost_prefix.size())] = number;
    }
    return found;
}

}  // namespace flatback::tools
