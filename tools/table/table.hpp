// The table that `flatback run` ends with.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/measure/measurements.hpp"
#include "tools/table/targets.hpp"

namespace flatback::tools {

// A row: a title and right-aligned columns.
[[nodiscard]] std::string table_row(std::string_view title, const std::vector<std::string>& cells);
// peer: the title of the targets' peers.
[[nodiscard]] std::string render_targets(const std::vector<Target>& targets, std::string_view peer);

[[nodiscard]] std::string render_table(const Measurements& measurements);

}  // namespace flatback::tools
