// What Flatback is to reach, beside what was measured.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/measure/measurements.hpp"

namespace flatback::tools {

struct Target {
    std::string operation;
    std::string peer;  // as the peer's baseline words it
    double to_reach;   // at most this
    std::optional<double> measured;
    bool further_condition = true;  // what else must hold, named in the operation

    [[nodiscard]] bool reached() const { return measured && *measured <= to_reach && further_condition; }
};

[[nodiscard]] std::vector<Target> targets(const Measurements& measurements);

}  // namespace flatback::tools
