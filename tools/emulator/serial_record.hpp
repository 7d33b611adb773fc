// The records that guests print on COM1: one a line, each beginning with FLATBACK.
//
//   FLATBACK stage NAME             FLATBACK check NAME pass          FLATBACK end
//   FLATBACK value DOTTED.KEY N     FLATBACK check NAME fail WHY
//   FLATBACK text DOTTED.KEY TEXT   FLATBACK error WHERE: WHAT
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace flatback::tools {

struct StageRecord {
    std::string name;
};

// A number of the guest's, kept as it was printed: decimal digits, perhaps with a fraction.
struct ValueRecord {
    std::string key;
    std::string number;
};

struct TextRecord {
    std::string key;
    std::string text;
};

struct CheckRecord {
    std::string name;
    bool passed = false;
    std::string why;  // empty where it passed
};

struct ErrorRecord {
    std::string what;  // "WHERE: WHAT"
};

struct EndRecord {};

// A line that begins with FLATBACK but is none of the above: a guest's mistake or a damaged line.
struct MalformedRecord {
    std::string line;
};

using SerialRecord =
    std::variant<StageRecord, ValueRecord, TextRecord, CheckRecord, ErrorRecord, EndRecord, MalformedRecord>;

// The record in `line` (without its newline; a carriage return at the end is ignored), or nothing where the
// line is not a record.
[[nodiscard]] std::optional<SerialRecord> parse_serial_record(std::string_view line);

// Whether `text` is a decimal number: digits, perhaps a point and more digits.
[[nodiscard]] bool is_decimal_number(std::string_view text);

}  // namespace flatback::tools
