// The tables that `flatback bench` prints.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/bench_results.hpp"

namespace flatback::tools {

// What is to be reached, and whether it was. The peer's figures are this run's own; none without it.
struct BenchTarget {
    std::string what;
    std::optional<double> measured;
    double to_reach = 0;  // at most
    std::optional<double> peer;

    [[nodiscard]] bool reached() const { return measured && *measured <= to_reach; }
};

[[nodiscard]] std::vector<BenchTarget> bench_targets(const BenchResults& results);

[[nodiscard]] std::string render_bench(const BenchResults& results);

}  // namespace flatback::tools
