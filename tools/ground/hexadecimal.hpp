// Hexadecimal numbers in what other programs print.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

namespace flatback::tools {

// The number at the start of `text`, with or without 0x; nothing where there is none or it has more than 64
// bits.
[[nodiscard]] inline std::optional<std::uint64_t> hexadecimal_number(std::string_view text) {
    constexpr int base = 16;
    if (text.starts_with("0x")) text.remove_prefix(2);
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    return error == std::errc{} ? std::optional{value} : std::nullopt;
}

}  // namespace flatback::tools
