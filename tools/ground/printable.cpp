#include "tools/ground/printable.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

namespace flatback::tools {
namespace {

constexpr unsigned char delete_character = 0x7F;
constexpr char32_t first_after_controls = 0xA0;  // 80H to 9FH are the C1 controls

// The length of the UTF-8 sequence at the start of `text`, whose first byte is 80H or more; 0 where it is
// none, or a control. (RFC 3629: no overlong forms, no surrogates, at most 10FFFFH.)
std::size_t sequence_length(std::string_view text) {
    const auto byte = [text](std::size_t at) { return static_cast<unsigned char>(text[at]); };
    const std::size_t length = byte(0) >= 0xF0 ? 4 : byte(0) >= 0xE0 ? 3 : 2;
    if (byte(0) < 0xC2 || byte(0) > 0xF4 || text.size() < length) return 0;
    char32_t code = byte(0) & (0x7FU >> length);
    for (std::size_t at = 1; at < length; ++at) {
        if ((byte(at) & 0xC0U) != 0x80) return 0;
        code = code << 6 | (byte(at) & 0x3FU);
    }
    constexpr char32_t least[] = {0, 0, first_after_controls, 0x800, 0x10000};
    if (code < least[length] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return 0;
    return length;
}

}  // namespace

std::string printable(std::string_view text) {
    std::string result;
    while (!text.empty()) {
        const auto byte = static_cast<unsigned char>(text.front());
        std::size_t length = 1;
        if (byte == delete_character) {
            result += "^?";
        } else if (byte < ' ' && byte != '\t') {
            result += '^';
            result += static_cast<char>(byte + '@');
        } else if (byte < delete_character) {
            result += text.front();
        } else if (length = sequence_length(text); length != 0) {
            result += text.substr(0, length);
        } else {
            length = 1;
            result += fmt::format("\\x{:02x}", byte);
        }
        text.remove_prefix(length);
    }
    return result;
}

std::string printable_lines(std::string_view text) {
    std::string result;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, end);
        while (line.ends_with('\r')) line.remove_suffix(1);
        result += printable(line);
        if (end < text.size()) result += '\n';
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return result;
}

}  // namespace flatback::tools
