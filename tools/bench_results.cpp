#include "tools/bench_results.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace flatback::tools {
namespace {

using Runs = std::map<std::string, RunValues, std::less<>>;

// Looks values up in the runs, and notes what is not there.
class Lookup final {
public:
    Lookup(const Runs& runs, std::vector<MissingValue>& missing) : runs_{runs}, missing_{missing} {}

    [[nodiscard]] std::optional<double> find(std::string_view run, const std::string& key) const {
        const auto found = runs_.find(run);
        return found == runs_.end() ? std::nullopt : found->second.value(key);
    }

    [[nodiscard]] std::optional<double> require(std::string_view run, const std::string& key) const {
        const auto value = find(run, key);
        if (!value) missing_.push_back({std::string{run}, key});
        return value;
    }

    [[nodiscard]] const RunValues& of(std::string_view run) const {
        static const RunValues none;
        const auto found = runs_.find(run);
        return found == runs_.end() ? none : found->second;
    }

private:
    const Runs& runs_;
    std::vector<MissingValue>& missing_;
};

LatCtx lat_ctx_of(const Lookup& lookup, const BenchSystem& system, std::string_view column) {
    const auto value = [&](std::string_view name) {
        return lookup.require(system.run, fmt::format("lat_ctx.{}.{}.{}", system.level, column, name));
    };
    LatCtx result;
    result.ticks = value("ticks").value_or(0);
    if (system.counters == Counters::none) return result;
    result.l2_entries = value("l2_entries");
    result.l0_exits = value("l0_exits");
    const auto l2_tag_flushes = value("l2_tag_flushes");
    if (system.counters == Counters::kvm) {
        // One number, whatever the tag: guests/linux/kvm_counters.hpp.
        result.tlb_flushes = l2_tag_flushes;
    } else {
        result.l2_tag_flushes = l2_tag_flushes;
        result.l1_tag_flushes = value("l1_tag_flushes");
    }
    return result;
}

// A figure of Linux as L1, by its name in JSON and its key under modes.MODE. in the guest's output.
struct LinuxPrimitive {
    std::string_view name;
    std::string_view key;
    std::string_view title;
};
constexpr std::array<LinuxPrimitive, 9> linux_primitives{{
    {"linux_l1_cpuid", "l1_cpuid_ticks", "L1 CPUID"},
    {"linux_l2_cpuid", "l2_cpuid_reflected_ticks", "L2 CPUID"},
    {"linux_l2_vmcall", "l2_vmcall_ticks", "L2 VMCALL"},
    {"linux_l2_rdmsr", "l2_rdmsr_ticks", "L2 RDMSR 1A0H"},
    {"linux_l2_ioeventfd", "l2_ioeventfd_ticks", "L2 OUT, ioeventfd"},
    {"linux_l2_io", "l2_io_ticks", "L2 OUT to L1's VMM process"},
    {"linux_l2_hlt", "l2_hlt_ticks", "L2 HLT to L1's VMM process"},
    {"linux_l2_mmio", "l2_mmio_ticks", "L2 MMIO read to L1's VMM process"},
    {"linux_l2_first_touch", "l2_first_touch_ticks", "L2 first touch of a page that L1 has"},
}};

std::vector<Primitive> primitives_of(const Lookup& lookup, bool with_kvm) {
    std::vector<Primitive> primitives;
    for (const LinuxPrimitive& each : linux_primitives) {
        Primitive primitive{each.name, each.title, {}, {}};
        primitive.flatback = lookup.require(flatback_mapped_run, fmt::format("modes.mapped.{}", each.key));
        if (with_kvm) primitive.kvm = lookup.require(kvm_vpid_run, fmt::format("modes.direct.{}", each.key));
        primitives.push_back(primitive);
    }
    for (const std::string_view name : bare_values) {
        const std::string key = fmt::format("bare_l1.{}", name);
        Primitive primitive{name, name, {}, {}};
        primitive.flatback = lookup.require(flatback_bare_l1_run, key);
        if (with_kvm) primitive.kvm = lookup.require(kvm_vpid_run, key);
        primitives.push_back(primitive);
    }
    // The same program on the processor itself executes L1's and L2's instructions of one round, and nobody
    // else's: what a round takes more above an L0 is L0's.
    const std::string round = "bare_l1.l2_cpuid_reflected";
    const auto alone = lookup.require(direct_bare_l1_run, round);
    const auto of_l0 = [&](std::string_view run) -> std::optional<double> {
        const auto above_l0 = lookup.find(run, round);
        if (!above_l0 || !alone) return std::nullopt;
        return *above_l0 - *alone;
    };
    primitives.push_back({l0_ticks_per_l2_entry, "L0's own, for a reflected L2 CPUID and the entry after it",
                          of_l0(flatback_bare_l1_run), with_kvm ? of_l0(kvm_vpid_run) : std::nullopt});
    return primitives;
}

std::map<std::string, ExitCount, std::less<>> exits_of(const RunValues& run, std::string_view mode) {
    std::map<std::string, ExitCount, std::less<>> exits;
    const auto reflected = run.texts_under(fmt::format("modes.{}.l2_linux.exits_reflected.", mode));
    for (const auto& [reason, text] : run.texts_under(fmt::format("modes.{}.l2_linux.exits.", mode))) {
        const auto number = [](const std::string& digits) -> std::uint64_t {
            return is_decimal_number(digits) ? std::strtoull(digits.c_str(), nullptr, 10) : 0;
        };
        ExitCount count;
        const auto found = reflected.find(reason);
        if (found != reflected.end()) count.reflected = number(found->second);
        count.handled = number(text) - std::min(number(text), count.reflected);
        exits.emplace(reason, count);
    }
    return exits;
}

}  // namespace

const LatCtx* BenchResults::column(std::string_view system, std::string_view column) const {
    const auto found = lat_ctx.find(system);
    if (found == lat_ctx.end()) return nullptr;
    const auto value = found->second.find(column);
    return value == found->second.end() ? nullptr : &value->second;
}

std::optional<double> BenchResults::per_l2_entry(std::string_view system,
                                                 std::optional<double> LatCtx::*count) const {
    double sum = 0;
    double entries = 0;
    for (const std::string_view name : lat_ctx_columns) {
        const LatCtx* const value = column(system, name);
        if (value == nullptr || !value->l2_entries || !(value->*count)) return std::nullopt;
        sum += *(value->*count);
        entries += *value->l2_entries;
    }
    if (entries == 0) return std::nullopt;
    return sum / entries;
}

std::optional<double> BenchResults::primitive(std::string_view name, bool of_kvm) const {
    const auto found = std::ranges::find(primitives, name, &Primitive::name);
    if (found == primitives.end()) return std::nullopt;
    return of_kvm ? found->kvm : found->flatback;
}

BenchResults bench_results(const Runs& runs, bool with_kvm, std::vector<MissingValue>& missing) {
    const Lookup lookup{runs, missing};
    BenchResults results;
    results.with_kvm = with_kvm;
    for (const BenchSystem& system : bench_systems(with_kvm)) {
        auto& columns = results.lat_ctx[std::string{system.name}];
        for (const std::string_view column : lat_ctx_columns)
            columns.emplace(column, lat_ctx_of(lookup, system, column));
        if (system.counters == Counters::flatback) {
            results.exits.emplace(system.name, exits_of(lookup.of(system.run), system.mode));
        }
    }
    results.primitives = primitives_of(lookup, with_kvm);
    const auto boot = [&](std::string_view place, std::optional<double> ticks) {
        if (ticks) results.boot.emplace(place, *ticks);
    };
    // Flatback's L1 has the machine's own time-stamp counter: L0 and L1 each say what it shows.
    const auto entry = lookup.require(flatback_mapped_run, "l0.l1_entry_tsc");
    const auto user = lookup.require(flatback_mapped_run, "l1.user_tsc");
    if (entry && user) boot("flatback.l1", *user - *entry);
    boot("flatback.l2", lookup.require(flatback_mapped_run, "boot.l2"));
    if (with_kvm) {
        boot("kvm.l1", lookup.require(kvm_vpid_run, "boot.l1"));
        boot("kvm.l2", lookup.require(kvm_vpid_run, "boot.l2"));
    }
    return results;
}

}  // namespace flatback::tools
