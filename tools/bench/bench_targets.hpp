// What the benchmark is to reach, judged by the figures of the run, and the peer's where it was measured
// beside.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/measure/measurements.hpp"

namespace flatback::tools {

struct BenchTarget {
    std::string what;
    std::optional<double> measured;
    double to_reach = 0;  // at most
    std::optional<double> peer;

    [[nodiscard]] bool reached() const { return measured && *measured <= to_reach; }
};

// Targets that are the peer's own figures are there only with the peer.
[[nodiscard]] std::vector<BenchTarget> bench_targets(const Measurements& measurements, bool with_kvm);

}  // namespace flatback::tools
