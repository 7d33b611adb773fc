#pragma once

#include <string>
#include <string_view>

#include "guests/lat_ctx/measure.hpp"

namespace flatback::guests {

/// The records of a column, each a line: KEY.COLUMN.{ticks,switch_ticks,overhead_ticks}, and per switch
/// {l2_entries,l0_exits,l2_tag_flushes,l1_tag_flushes} where they were counted.
[[nodiscard]] std::string column_records(std::string_view key, const Column& column,
                                         const ColumnResult& result);

/// The head of the table for people, and a row. `ticks_per_microsecond`: of the time stamp counter.
[[nodiscard]] std::string table_head(bool counters, bool across = false);
[[nodiscard]] std::string table_row(const Column& column, const ColumnResult& result,
                                    double ticks_per_microsecond);

}  // namespace flatback::guests
