#include "tools/table/smp_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tools/ground/format_number.hpp"
#include "tools/ground/json.hpp"
#include "tools/table/table.hpp"
#include "tools/table/target_json.hpp"

namespace flatback::tools {
namespace {

std::optional<double> smp(const RunValues& run, std::string_view name) {
    return run.value(fmt::format("bare_l1.smp.{}", name));
}
std::optional<double> hundredths_of(const RunValues& run, std::string_view name) {
    const auto value = smp(run, name);
    if (!value) return std::nullopt;
    constexpr double hundred = 100;
    return *value / hundred;
}
std::optional<double> difference(std::optional<double> more, std::optional<double> less) {
    if (!more || !less) return std::nullopt;
    return *more - *less;
}
std::optional<double> quotient(std::optional<double> of, std::optional<double> by) {
    if (!of || !by || *by == 0) return std::nullopt;
    return *of / *by;
}

// What all processors together did, idle ones nothing: in the emulator they all have the same ticks.
std::optional<double> busy_microseconds(const RunValues& linux_run) {
    const auto nanoseconds = linux_run.value("l1.busy_ns");
    if (!nanoseconds) return std::nullopt;
    return std::round(*nanoseconds / 1000);
}

std::vector<double> by_processor(const SmpMeasurements& measurements, std::string_view name) {
    std::vector<double> values;
    for (unsigned processor = 0; processor < measurements.processors; ++processor) {
        if (const auto value = smp(measurements.bare, fmt::format("{}.{}", name, processor)))
            values.push_back(*value);
    }
    return values;
}
std::optional<double> dearest(const std::vector<double>& values) {
    if (values.empty()) return std::nullopt;
    return *std::ranges::max_element(values);
}
std::optional<double> cheapest(const std::vector<double>& values) {
    if (values.empty()) return std::nullopt;
    return *std::ranges::min_element(values);
}

struct Line {
    std::string_view title;
    std::string_view name;
};
constexpr std::array<Line, 11> lines{{
    {"interrupt, L1 to L1, x2APIC", "ipi_l1_x2apic"},
    {"interrupt, L1 to L1, xAPIC", "ipi_l1_xapic"},
    {"interrupt, L2 vCPU to L2 vCPU, by L1", "ipi_l2"},
    {"shootdown of 16 pages, 2 vCPUs of an L2", "shootdown_l2"},
    {"first entry of a vCPU that has moved", "moved_first_entry"},
    {"the same on its own CPU, behind VMCLEAR", "cleared_first_entry"},
    {"INIT, SIPI and the way to long mode", "init_sipi"},
    {"EOI, x2APIC", "eoi_x2apic"},
    {"timer's count written, x2APIC", "timer_x2apic"},
    {"EOI, xAPIC", "eoi_xapic"},
    {"timer's count written, xAPIC", "timer_xapic"},
}};

}  // namespace

std::vector<Target> smp_targets(const SmpMeasurements& measurements) {
    const RunValues& bare = measurements.bare;
    const auto exits = by_processor(measurements, "reflected_exit");
    const auto moves = hundredths_of(bare, "flushes_per_move_x100");
    return {
        {"interrupt L1 to L1, x2APIC, above bare", "0", 300,
         difference(smp(bare, "ipi_l1_x2apic"), smp(measurements.bare_direct, "ipi_l1_x2apic"))},
        {"INIT and SIPI of a CPU", "", 50000, smp(bare, "init_sipi")},
        {"flushes per L2 entry where a vCPU stays", "-", 0, hundredths_of(bare, "flushes_per_entry_x100")},
        {"flushes a move of a vCPU, exactly 1", "-", 1, moves, moves == 1.0},
        {"reflected exit on all CPUs, dearest - cheapest", "0", 0,
         difference(dearest(exits), cheapest(exits))},
        {"the same above one CPU's alone, %", "0", 1,
         [&]() -> std::optional<double> {
             const auto ratio = quotient(dearest(exits), smp(bare, "reflected_exit_alone"));
             if (!ratio) return std::nullopt;
             constexpr double hundred = 100;
             return (*ratio - 1) * hundred;
         }()},
        {"Linux L1, all CPUs: boot by one CPU's", "-", 1.5,
         quotient(SmpMeasurements::boot_ticks(measurements.linux_all),
                  SmpMeasurements::boot_ticks(measurements.linux_one))},
    };
}

std::string render_smp_table(const SmpMeasurements& measurements) {
    const auto number = [](const std::optional<double>& value) {
        return value ? format_number(*value) : std::string{"not measured"};
    };
    std::string table = fmt::format("\nA machine with {} CPUs: a bare L1, ticks\n", measurements.processors);
    table += table_row("", {"with L0", "without"});
    for (const Line& line : lines) {
        table += table_row(line.title, {number(smp(measurements.bare, line.name)),
                                        number(smp(measurements.bare_direct, line.name))});
    }
    for (unsigned processor = 0; processor < measurements.processors; ++processor) {
        for (const auto& [title, name] :
             {std::pair{"L2 CPUID reflected on all CPUs at once", "reflected_exit"},
              std::pair{"the same, MSR and I/O bitmaps", "reflected_exit_bitmaps"}}) {
            const std::string key = fmt::format("{}.{}", name, processor);
            table +=
                table_row(fmt::format("{}, CPU {}", title, processor),
                          {number(smp(measurements.bare, key)), number(smp(measurements.bare_direct, key))});
        }
    }
    table += fmt::format("\nDebian's Linux as L1\n");
    table += table_row("CPUs of the machine", {"1", format_number(measurements.processors)});
    table += table_row("CPUs online in L1", {number(measurements.linux_one.value("l1.online")),
                                             number(measurements.linux_all.value("l1.online"))});
    table += table_row("and behind each one's offline and online",
                       {"-", number(measurements.linux_all.value("l1.online_again"))});
    table += table_row("L1's entry to user space, ticks",
                       {number(SmpMeasurements::boot_ticks(measurements.linux_one)),
                        number(SmpMeasurements::boot_ticks(measurements.linux_all))});
    table += table_row("L1's tasks, KVM loaded: all CPUs' sum, us",
                       {number(busy_microseconds(measurements.linux_one)),
                        number(busy_microseconds(measurements.linux_all))});
    std::vector<Target> all = smp_targets(measurements);
    for (Target& target : all) {
        if (target.peer.empty()) target.peer = number(smp(measurements.bare_direct, "init_sipi"));
    }
    return table + render_targets(all, "without") +
           "\n  without: the same L1 on the emulated machine itself, in this run.\n"
           "  A tick is an instruction that each of the emulated processors executes.\n";
}

std::string smp_json(const SmpMeasurements& measurements) {
    Json report = Json::object();
    Json& out = report["smp"];
    const auto put = [&out](std::string_view key, const std::optional<double>& value) {
        out[std::string{key}] = value ? Json(*value) : Json(nullptr);
    };
    const RunValues& bare = measurements.bare;
    put("cpus", smp(bare, "cpus"));
    put("l1_online", measurements.linux_all.value("l1.online"));
    put("l1_boot_ticks", SmpMeasurements::boot_ticks(measurements.linux_all));
    put("l1_boot_ticks_one_cpu", SmpMeasurements::boot_ticks(measurements.linux_one));
    put("l1_boot_busy_us", busy_microseconds(measurements.linux_all));
    put("l1_boot_busy_us_one_cpu", busy_microseconds(measurements.linux_one));
    put("ipi_l1_ticks", smp(bare, "ipi_l1_x2apic"));
    put("ipi_l1_xapic_ticks", smp(bare, "ipi_l1_xapic"));
    put("ipi_l2_ticks", smp(bare, "ipi_l2"));
    put("shootdown_l2_ticks", smp(bare, "shootdown_l2"));
    put("moved_vcpu_first_entry_ticks", smp(bare, "moved_first_entry"));
    put("flushes_per_move", hundredths_of(bare, "flushes_per_move_x100"));
    put("l2_tag_flushes_per_l2_entry", hundredths_of(bare, "flushes_per_entry_x100"));
    out["reflected_exit_ticks"] = by_processor(measurements, "reflected_exit");
    out["reflected_exit_bitmaps_ticks"] = by_processor(measurements, "reflected_exit_bitmaps");
    put("init_sipi_ticks", smp(bare, "init_sipi"));
    for (const std::string_view name : {"eoi_x2apic", "timer_x2apic", "eoi_xapic", "timer_xapic"})
        put(fmt::format("{}_ticks", name), smp(bare, name));
    for (const Line& line : lines)
        out["without_l0"][std::string{line.name}] = smp(measurements.bare_direct, line.name)
                                                        ? Json(*smp(measurements.bare_direct, line.name))
                                                        : Json(nullptr);
    report["targets"] = targets_json(smp_targets(measurements));
    return report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace flatback::tools
