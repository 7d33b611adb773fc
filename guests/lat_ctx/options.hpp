#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "guests/lat_ctx/column.hpp"
#include "guests/linux/failure.hpp"

namespace flatback::guests {

struct Options {
    bool help = false;
    std::vector<Column> columns;
    /// Measured switches of each column; at least one batch is measured.
    std::uint64_t switches = 2000;
    /// Print records under this key instead of a table.
    std::string records;
    /// As open_counter_source() takes it; empty: no counters.
    std::string counters;
    /// The processor all processes run on; nothing: the one that the program starts on.
    std::optional<unsigned> processor;
    /// Each ring once more, its processes on so many processors by turns, from number 0 on; 1: not.
    unsigned across = 1;
};

/// `words` without the program's name. The error is one line for the user.
[[nodiscard]] Expected<Options> parse_options(std::span<const std::string_view> words);

[[nodiscard]] std::string options_usage();

}  // namespace flatback::guests
