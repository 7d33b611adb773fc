#include "tools/bench/primitives.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "tools/bench/bench_runs.hpp"
#include "tools/measure/lat_ctx.hpp"

namespace flatback::tools {
namespace {

// A figure of Linux as L1: its name in JSON, and its key under modes.MODE.
struct ThroughLinux {
    std::string_view name;
    std::string_view key;
    std::string_view title;
};
constexpr std::array<ThroughLinux, 9> through_linux{{
    {"linux_l1_cpuid", "l1_cpuid_ticks", "Linux: L1 CPUID"},
    {"linux_l2_cpuid", "l2_cpuid_reflected_ticks", "Linux: L2 CPUID"},
    {"linux_l2_vmcall", "l2_vmcall_ticks", "Linux: L2 VMCALL"},
    {"linux_l2_rdmsr", "l2_rdmsr_ticks", "Linux: L2 RDMSR 1A0H"},
    {"linux_l2_ioeventfd", "l2_ioeventfd_ticks", "Linux: L2 OUT, ioeventfd"},
    {"linux_l2_io", "l2_io_ticks", "Linux: L2 OUT to the VMM process"},
    {"linux_l2_hlt", "l2_hlt_ticks", "Linux: L2 HLT to the VMM process"},
    {"linux_l2_mmio", "l2_mmio_ticks", "Linux: L2 MMIO read to the VMM process"},
    {"linux_l2_first_touch", "l2_first_touch_ticks", "Linux: L2 first touch, L1's page present"},
}};

// The same payloads as guests of KVM itself, not nested.
constexpr std::array<ThroughLinux, 8> not_nested{{
    {"linux_not_nested_cpuid", "l2_cpuid_reflected_ticks", "KVM as L0: L1 CPUID"},
    {"linux_not_nested_vmcall", "l2_vmcall_ticks", "KVM as L0: L1 VMCALL"},
    {"linux_not_nested_rdmsr", "l2_rdmsr_ticks", "KVM as L0: L1 RDMSR 1A0H"},
    {"linux_not_nested_ioeventfd", "l2_ioeventfd_ticks", "KVM as L0: L1 OUT, ioeventfd"},
    {"linux_not_nested_io", "l2_io_ticks", "KVM as L0: L1 OUT to the VMM process"},
    {"linux_not_nested_hlt", "l2_hlt_ticks", "KVM as L0: L1 HLT to the VMM process"},
    {"linux_not_nested_mmio", "l2_mmio_ticks", "KVM as L0: L1 MMIO read to the VMM process"},
    {"linux_not_nested_first_touch", "l2_first_touch_ticks", "KVM as L0: L1 first touch, page present"},
}};

std::optional<double> difference_of(const std::optional<double>& whole, const std::optional<double>& part) {
    if (!whole || !part) return std::nullopt;
    return *whole - *part;
}

}  // namespace

std::vector<Primitive> primitives(const Measurements& measurements) {
    const RunValues& mapped = measurements.of_mode(modes.front());
    const RunValues& kvm = measurements.of_mode(kvm_name);
    std::vector<Primitive> all;
    for (const ThroughLinux& each : through_linux) {
        // L1 names the mode by what it finds beneath: "direct" where that is not Flatback.
        all.push_back({each.name, each.title,
                       mapped.value(fmt::format("modes.{}.{}", modes.front(), each.key)),
                       kvm.value(fmt::format("modes.direct.{}", each.key))});
    }
    for (const ThroughLinux& each : not_nested) {
        all.push_back(
            {each.name, each.title, {}, kvm.value(fmt::format("modes.not_nested.{}", each.key)), true});
    }
    for (const std::string_view name : bare_values) {
        const std::string key = fmt::format("bare_l1.{}", name);
        all.push_back({name, name, measurements.bare.value(key), kvm.value(key)});
    }
    const std::string cpuid = "l2_cpuid_reflected_ticks";
    const auto kvm_alone = kvm.value("modes.not_nested." + cpuid);
    all.push_back({l0_ticks_per_l2_entry, "L0's own, for an L2 CPUID through Linux",
                   difference_of(mapped.value(fmt::format("modes.{}.{}", modes.front(), cpuid)), kvm_alone),
                   difference_of(kvm.value("modes.direct." + cpuid), kvm_alone), true});
    // Without an L0, a round takes L1's and L2's own instructions, since a world switch is one: the rest is
    // L0's.
    const std::string round = "bare_l1.l2_cpuid_reflected";
    const auto alone = measurements.of_mode(bare_l1_alone_name).value(round);
    all.push_back({l0_ticks_per_bare_l2_entry, "L0's own, for an L2 CPUID through the bare L1",
                   difference_of(measurements.bare.value(round), alone),
                   difference_of(kvm.value(round), alone)});
    return all;
}

const Primitive& primitive(const std::vector<Primitive>& all, std::string_view name) {
    return *std::ranges::find(all, name, &Primitive::name);
}

std::vector<std::string> missing_primitives(const Measurements& measurements, bool with_kvm) {
    std::vector<std::string> missing;
    for (const Primitive& each : primitives(measurements)) {
        if (!each.flatback && !each.only_kvm)
            missing.push_back(fmt::format("primitives.flatback.{}", each.name));
        if (with_kvm && !each.kvm) missing.push_back(fmt::format("primitives.kvm.{}", each.name));
    }
    return missing;
}

}  // namespace flatback::tools
