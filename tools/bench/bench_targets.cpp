#include "tools/bench/bench_targets.hpp"

#include <algorithm>

#include "tools/bench/primitives.hpp"
#include "tools/measure/lat_ctx.hpp"

namespace flatback::tools {
namespace {

// By how many per cent the worst column of a level is above bare Linux.
std::optional<double> worst_above_bare(const Measurements& measurements, const LatCtxLevel& level) {
    std::optional<double> worst;
    for (const std::string_view column : lat_ctx_columns) {
        const auto bare = lat_ctx_value(measurements, lat_ctx_level("bare"), column, "ticks");
        const auto ticks = lat_ctx_value(measurements, level, column, "ticks");
        if (!bare || !ticks || *bare <= 0) return std::nullopt;
        constexpr double per_cent = 100;
        const double above = (*ticks / *bare - 1) * per_cent;
        worst = std::max(worst.value_or(above), above);
    }
    return worst;
}

}  // namespace

std::vector<BenchTarget> bench_targets(const Measurements& measurements, bool with_kvm) {
    const LatCtxLevel& mapped = lat_ctx_level("flatback.mapped");
    const LatCtxLevel& without_ept = lat_ctx_level("flatback.mapped_ept0");
    const LatCtxLevel& kvm = kvm_levels[0];
    const LatCtxLevel& kvm_without_ept = kvm_levels[2];
    constexpr std::string_view seventh = "8p/16K";
    constexpr double boot_ticks = 1e9;
    constexpr double per_cent_above_bare = 2;
    constexpr double ticks_without_ept = 20'000;
    std::vector<BenchTarget> targets{
        {"L2 Linux boots, ticks", l2_boot_ticks(measurements, modes.front()), boot_ticks,
         l2_boot_ticks(measurements, kvm_name)},
        {"lat_ctx in L2, raw, % above bare, worst column", worst_above_bare(measurements, mapped),
         per_cent_above_bare, worst_above_bare(measurements, kvm)},
        {"L2-tag flushes per L2 entry, mapped", lat_ctx_per_l2_entry(measurements, mapped, "l2_tag_flushes"),
         0, std::nullopt},  // KVM's counter leaves out what an INVVPID of L1's flushes
        {"lat_ctx 8p/16K in L2, L1 ept=0", lat_ctx_value(measurements, without_ept, seventh, "ticks"),
         ticks_without_ept, lat_ctx_value(measurements, kvm_without_ept, seventh, "ticks")},
    };
    if (!with_kvm) return targets;
    // What is to be reached is the peer's own figure, of this run.
    const auto exits = lat_ctx_per_l2_entry(measurements, kvm, "l0_exits");
    targets.push_back({"L0 exits per L2 entry", lat_ctx_per_l2_entry(measurements, mapped, "l0_exits"),
                       exits.value_or(0), exits});
    const auto all = primitives(measurements);
    const Primitive& own = primitive(all, l0_ticks_per_l2_entry);
    constexpr double tenth = 0.1;
    targets.push_back({"L0's ticks per L2 entry", own.flatback, own.kvm.value_or(0) * tenth, own.kvm});
    return targets;
}

}  // namespace flatback::tools
