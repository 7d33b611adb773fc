#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "guests/linux/kvm.hpp"
#include "guests/linux/l0_counters.hpp"
#include "guests/linux/payload.hpp"

namespace flatback::guests {

/// One measured figure: `key` as in modes.MODE.KEY, in ticks an operation.
struct Figure {
    std::string_view key;
    std::uint64_t ticks;
};

struct PayloadResult {
    std::vector<Figure> figures;
    /// Over the measured phases only; all zero where L0 does not tell.
    L0Counters counters;
    /// Empty where L2 did what it should have done; else what was wrong.
    std::string wrong;
};

/// Runs one payload in a VM of its own. A failure is one of KVM's or L2's execution; a wrong result
/// is `PayloadResult::wrong`. `with_counters`: L0's leaves may be read.
[[nodiscard]] Expected<PayloadResult> run_payload(const Payload& which, bool with_counters);

/// Ticks of one CPUID in this process: what an exit of L1's own costs.
[[nodiscard]] std::uint64_t measure_l1_cpuid();

}  // namespace flatback::guests
