// What `flatback run --cpus N` and `flatback bench --peer kvm --cpus N` end with.
#pragma once

#include <string>
#include <vector>

#include "tools/measure/smp_runs.hpp"
#include "tools/table/targets.hpp"

namespace flatback::tools {

// The peer of these is KVM where it was run, else the same without L0, in the same run.
[[nodiscard]] std::vector<Target> smp_targets(const SmpMeasurements& measurements);
[[nodiscard]] std::string render_smp_table(const SmpMeasurements& measurements);
[[nodiscard]] std::string smp_json(const SmpMeasurements& measurements);

}  // namespace flatback::tools
