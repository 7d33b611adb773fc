#include "tools/emulator/serial_record.hpp"

#include <algorithm>

namespace flatback::tools {
namespace {

// Takes the first word off `text`, and the space after it.
std::string_view take_word(std::string_view& text) {
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return word;
}

bool all_digits(std::string_view text) {
    return !text.empty() &&
           std::ranges::all_of(text, [](char character) { return character >= '0' && character <= '9'; });
}

}  // namespace

bool is_decimal_number(std::string_view text) {
    const std::size_t point = text.find('.');
    if (point == std::string_view::npos) return all_digits(text);
    return all_digits(text.substr(0, point)) && all_digits(text.substr(point + 1));
}

std::optional<SerialRecord> parse_serial_record(std::string_view line) {
    while (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    std::string_view rest = line;
    if (take_word(rest) != "FLATBACK") return std::nullopt;

    const MalformedRecord malformed{std::string{line}};
    const std::string_view kind = take_word(rest);
    if (kind == "end" && rest.empty()) return EndRecord{};
    if (kind == "error" && !rest.empty()) return ErrorRecord{std::string{rest}};

    const std::string_view name = take_word(rest);
    if (name.empty()) return malformed;
    if (kind == "stage" && rest.empty()) return StageRecord{std::string{name}};
    if (kind == "text") return TextRecord{std::string{name}, std::string{rest}};
    if (kind == "value" && is_decimal_number(rest)) return ValueRecord{std::string{name}, std::string{rest}};
    if (kind == "check") {
        if (rest == "pass") return CheckRecord{std::string{name}, true, {}};
        const std::string_view verdict = take_word(rest);
        if (verdict == "fail") return CheckRecord{std::string{name}, false, std::string{rest}};
    }
    return malformed;
}

}  // namespace flatback::tools
