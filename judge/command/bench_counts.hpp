#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "machine/price/stack_price.hpp"
#include "machine/program/result.hpp"

namespace flatback::machine {

/// What `flatback bench --json` counted in one column of lat_ctx.
struct CountedColumn {
    price::Column column;
    price::Counts counts;
};

/// In one configuration: "flatback.mapped", "kvm.vpid", "l1".
struct CountedSeries {
    std::string name;
    std::vector<CountedColumn> columns;
};

/// The counts in the text of such a file; columns without any count are left out. An error is one line: the
/// place and what is wrong there.
[[nodiscard]] Result<std::vector<CountedSeries>, std::string> read_bench_counts(std::string_view text);

}  // namespace flatback::machine
