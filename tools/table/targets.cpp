#include "tools/table/targets.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "tools/measure/lat_ctx.hpp"

namespace flatback::tools {
namespace {

// The sum of two values of a run, divided; nothing where one is missing.
std::optional<double> sum(const RunValues& run, const std::string& first, const std::string& second,
                          double divisor) {
    const auto a = run.value(first);
    const auto b = run.value(second);
    if (!a || !b) return std::nullopt;
    return (*a + *b) / divisor;
}

std::optional<double> flushes_per_entry(const Measurements& measurements, std::string_view mode) {
    const std::string prefix = fmt::format("modes.{}.per_l2_entry.", mode);
    return sum(measurements.of_mode(mode), prefix + "l2_tag_flushes", prefix + "l1_tag_flushes", 1);
}

std::optional<double> hundredths(const RunValues& run, std::string_view key) {
    const auto value = run.value(key);
    if (!value) return std::nullopt;
    constexpr double hundred = 100;
    return *value / hundred;
}

// By how many percent the raw figure of L2 is above bare Linux', in the worst column.
std::optional<double> worst_percent_above_bare(const Measurements& measurements) {
    constexpr double hundred = 100;
    std::optional<double> worst;
    for (const std::string_view column : lat_ctx_columns) {
        const auto bare = lat_ctx_value(measurements, lat_ctx_level("bare"), column, "ticks");
        const auto l2 = lat_ctx_value(measurements, lat_ctx_level("flatback.mapped"), column, "ticks");
        if (!bare || !l2 || *bare == 0) return std::nullopt;
        const double percent = (*l2 - *bare) / *bare * hundred;
        worst = worst ? std::max(*worst, percent) : percent;
    }
    return worst;
}

// The dearest of several lines.
std::optional<double> dearest(const RunValues& run, std::initializer_list<std::string_view> names) {
    std::optional<double> most;
    for (const std::string_view name : names) {
        const auto ticks = run.value(fmt::format("bare_l1.{}", name));
        if (!ticks) return std::nullopt;
        most = std::max(most.value_or(0), *ticks);
    }
    return most;
}

// The dearest of the kinds of events.
std::optional<double> ticks_per_traced_event(const RunValues& run) {
    std::optional<double> most;
    for (const std::string_view value : trace_values) {
        const auto ticks = hundredths(run, fmt::format("bare_l1.{}", value));
        if (!ticks) return std::nullopt;
        most = std::max(most.value_or(0), *ticks);
    }
    return most;
}

}  // namespace

std::vector<Target> targets(const Measurements& measurements) {
    const RunValues& bare = measurements.bare;
    const LatCtxLevel& mapped = lat_ctx_level("flatback.mapped");
    constexpr double hundred = 100;
    const auto alternating_flushes = sum(bare, "bare_l1.per_alternating.l2_tag_flushes",
                                         "bare_l1.per_alternating.l1_tag_flushes", hundred);
    return {
        {"L1 CPUID", "965", 100, bare.value("bare_l1.l1_cpuid")},
        {"L2 CPUID reflected, L1 3 VMREAD + 1 VMWRITE", "13,621", 1000,
         bare.value("bare_l1.l2_cpuid_reflected")},
        {"the same, L1's other controls, the dearest", "-", 1300,
         dearest(bare, {"l2_cpuid_reflected_all_loaded", "l2_cpuid_reflected_nothing_loaded",
                        "l2_cpuid_reflected_bitmaps", "l2_cpuid_reflected_bitmaps_all_loaded"})},
        {"the same, vpid12 alternating 1/2, no flush", "16,732", 1500,
         bare.value("bare_l1.l2_cpuid_reflected_alternating"), alternating_flushes == 0.0},
        {"two L2 vCPUs: VMPTRLD + 2 VMWRITE + VMRESUME", "24,458", 2500, bare.value("bare_l1.two_l2_vcpus")},
        {"EPT02 fill per new 4 KB page", "6,914", 700, bare.value("bare_l1.ept02_fill")},
        {"INVVPID, single context", "2,364", 300, bare.value("bare_l1.invvpid_single")},
        {"INVVPID, individual address", "2,380", 300, bare.value("bare_l1.invvpid_address")},
        {"INVVPID, all contexts", "2,358", 300, bare.value("bare_l1.invvpid_all")},
        {"INVEPT, single context", "2,404", 300, bare.value("bare_l1.invept_single")},
        {"INVEPT, all contexts", "2,411", 300, bare.value("bare_l1.invept_all")},
        {"VMX instruction, any operand page, the dearest", "-", 300,
         dearest(bare, {"operand_4k", "operand_user_4k", "operand_user_2m", "operand_user_1g"})},
        {"the longest exit but one with MSR lists", "-", 20000,
         dearest(bare, {"longest_ept_violation", "longest_invept", "longest_vmptrld", "longest_vmclear",
                        "longest_apic_switch"})},
        {"flushes per L2 entry, L1 with VPID", "0.002", 0, flushes_per_entry(measurements, "mapped")},
        {"flushes per L2 entry, L1 without VPID", "2.0", 2, flushes_per_entry(measurements, "off")},
        {"world switches per reflected exit, shadow VMCS", "2", 2,
         hundredths(bare, "bare_l1.per_reflected.l0_exits")},
        {"VMREAD + VMWRITE of L0 per reflected exit", "not counted", 40,
         sum(bare, "bare_l1.per_reflected.vmreads", "bare_l1.per_reflected.vmwrites", hundred)},
        {"Linux as L2: VMM's start to user space", "800,000,000", 1e9,
         l2_boot_ticks(measurements, modes.front())},
        {"the same by QEMU", "800,000,000", 1e9, l2_boot_ticks(measurements, with_qemu_name)},
        {"lat_ctx in L2, raw, % above bare, worst column", "3 to 6", 2,
         worst_percent_above_bare(measurements)},
        {"lat_ctx in L2: L2-tag flushes per L2 entry", "0.002", 0,
         lat_ctx_per_l2_entry(measurements, mapped, "l2_tag_flushes")},
        {"lat_ctx in L2: L0 exits per L2 entry", "4.7", 4.7,
         lat_ctx_per_l2_entry(measurements, mapped, "l0_exits")},
        {"lat_ctx 8p/16K in L2, L1 ept=0", "33,454", 20000,
         lat_ctx_value(measurements, lat_ctx_level("flatback.mapped_ept0"), "8p/16K", "ticks")},
        {"an event of L0's trace, trace=on", "-", 40, ticks_per_traced_event(measurements.bare_trace)},
    };
}

}  // namespace flatback::tools
