// What a run of `flatback bench` has measured, by system and column, and what is missing.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/bench_runs.hpp"
#include "tools/measurements.hpp"

namespace flatback::tools {

// Of one column, each a switch.
struct LatCtx {
    double ticks = 0;
    std::optional<double> l2_entries;
    std::optional<double> l0_exits;
    std::optional<double> l2_tag_flushes;
    std::optional<double> l1_tag_flushes;
    std::optional<double> tlb_flushes;  // of any tag, where they cannot be told apart
};

struct ExitCount {
    std::uint64_t handled = 0;    // by L0
    std::uint64_t reflected = 0;  // to L1
};

// The primitive that L0's targets are about; its name in JSON.
inline constexpr std::string_view l0_ticks_per_l2_entry = "l0_ticks_per_l2_entry";

// A primitive's ticks on both.
struct Primitive {
    std::string_view name;  // its key in JSON
    std::string_view title;
    std::optional<double> flatback;
    std::optional<double> kvm;
};

struct BenchResults {
    bool with_kvm = false;
    std::map<std::string, std::map<std::string, LatCtx, std::less<>>, std::less<>> lat_ctx;  // system, column
    std::vector<Primitive> primitives;
    std::map<std::string, double, std::less<>> boot;  // ticks, by flatback.l1, kvm.l2, …
    std::map<std::string, std::map<std::string, ExitCount, std::less<>>, std::less<>>
        exits;  // system, reason

    [[nodiscard]] const LatCtx* column(std::string_view system, std::string_view column) const;
    // The sum of a count over the columns, divided by that of the L2 entries; nothing where there were none.
    [[nodiscard]] std::optional<double> per_l2_entry(std::string_view system,
                                                     std::optional<double> LatCtx::*count) const;
    [[nodiscard]] std::optional<double> primitive(std::string_view name, bool of_kvm) const;
};

// A value that a run should have printed and has not.
struct MissingValue {
    std::string run;
    std::string key;
};

[[nodiscard]] BenchResults bench_results(const std::map<std::string, RunValues, std::less<>>& runs,
                                         bool with_kvm, std::vector<MissingValue>& missing);

}  // namespace flatback::tools
