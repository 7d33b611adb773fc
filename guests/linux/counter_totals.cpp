#include "guests/linux/counter_totals.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace flatback::guests {
namespace {

struct Field {
    std::string_view name;
    std::uint64_t CounterTotals::*member;
};
constexpr std::array<Field, 4> fields{{{"l2_entries", &CounterTotals::l2_entries},
                                       {"l0_exits", &CounterTotals::l0_exits},
                                       {"l2_tag_flushes", &CounterTotals::l2_tag_flushes},
                                       {"l1_tag_flushes", &CounterTotals::l1_tag_flushes}}};

/// Takes the first word off `text`, and the space after it.
[[nodiscard]] std::string_view take_word(std::string_view& text) {
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return word;
}

}  // namespace

std::string format_counter_reply(const CounterTotals& totals) {
    std::string line(counter_request);
    for (const Field& field : fields) {
        line.append(" ").append(field.name).append("=").append(std::to_string(totals.*field.member));
    }
    return line;
}

std::optional<CounterTotals> parse_counter_reply(std::string_view line) {
    while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) {
        line.remove_suffix(1);
    }
    if (take_word(line) != counter_request) {
        return std::nullopt;
    }
    CounterTotals totals;
    for (const Field& field : fields) {
        const std::string_view word = take_word(line);
        if (!word.starts_with(field.name) || word.size() <= field.name.size() + 1 ||
            word[field.name.size()] != '=') {
            return std::nullopt;
        }
        const std::string_view digits = word.substr(field.name.size() + 1);
        const auto [end, error] =
            std::from_chars(digits.data(), digits.data() + digits.size(), totals.*field.member);
        if (error != std::errc{} || end != digits.data() + digits.size()) {
            return std::nullopt;
        }
    }
    return line.empty() ? std::optional(totals) : std::nullopt;
}

}  // namespace flatback::guests
