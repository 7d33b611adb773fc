#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace flatback::guests {

/// One column of the benchmark's table: so many processes, each of which sums so many bytes on its turn.
struct Column {
    unsigned processes;
    std::size_t kilobytes;

    friend bool operator==(const Column&, const Column&) = default;
};

inline constexpr unsigned most_processes = 64;
inline constexpr std::size_t most_kilobytes = 1024;

/// lmbench's usual columns.
inline constexpr std::array<Column, 7> usual_columns{
    {{2, 0}, {2, 16}, {2, 64}, {8, 16}, {8, 64}, {16, 16}, {16, 64}}};

/// "8p/16K"
[[nodiscard]] std::string column_name(const Column& column);

/// Nothing where the name is no column's, or out of bounds: 2 to most_processes, 0 to most_kilobytes.
[[nodiscard]] std::optional<Column> parse_column(std::string_view name);

}  // namespace flatback::guests
