#include "tools/table/smp_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

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

std::vector<double> by_processor(const RunValues& bare, unsigned processors, std::string_view name) {
    std::vector<double> values;
    for (unsigned processor = 0; processor < processors; ++processor) {
        if (const auto value = smp(bare, fmt::format("{}.{}", name, processor))) values.push_back(*value);
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

// Why the peer has no figure where it has none. Its runs give every other one, or there is no table.
constexpr std::string_view flushes_of_kvm =
    "KVM counts all tags' flushes in one number, without those for an INVVPID of L1's; the bare L1 cannot "
    "ask it";

// What is judged, of one L0, in the order of smp_targets.
std::array<std::optional<double>, 7> judged(const SmpMeasurements& measurements, const SmpFigures& of) {
    const RunValues& bare = of.bare;
    const auto exits = by_processor(bare, measurements.processors, "reflected_exit");
    const auto above_alone = quotient(dearest(exits), smp(bare, "reflected_exit_alone"));
    return {
        difference(smp(bare, "ipi_l1_x2apic"), smp(measurements.bare_direct, "ipi_l1_x2apic")),
        smp(bare, "init_sipi"),
        hundredths_of(bare, "flushes_per_entry_x100"),
        hundredths_of(bare, "flushes_per_move_x100"),
        difference(dearest(exits), cheapest(exits)),
        above_alone ? std::optional{(*above_alone - 1) * 100} : std::nullopt,
        quotient(SmpFigures::boot_ticks(of.linux_all), SmpFigures::boot_ticks(of.linux_one)),
    };
}

// The columns of a row: Flatback, where it was run the peer, and what is last.
std::vector<std::string> columns(const SmpMeasurements& measurements, const auto& cell, std::string last) {
    std::vector<std::string> cells{cell(measurements.flatback)};
    if (measurements.kvm) cells.push_back(cell(*measurements.kvm));
    cells.push_back(std::move(last));
    return cells;
}

std::string number(const std::optional<double>& value) {
    return value ? format_number(*value) : std::string{"not measured"};
}

std::string bare_rows(const SmpMeasurements& measurements) {
    std::string table = fmt::format("\nA machine with {} CPUs: a bare L1, ticks\n", measurements.processors);
    table += measurements.kvm ? table_row("", {"Flatback", "KVM as L0", "no L0"})
                              : table_row("", {"with L0", "without"});
    const auto add = [&](std::string_view title, std::string_view key) {
        table += table_row(title,
                           columns(
                               measurements, [&](const SmpFigures& of) { return number(smp(of.bare, key)); },
                               number(smp(measurements.bare_direct, key))));
    };
    for (const Line& line : lines) add(line.title, line.name);
    for (unsigned processor = 0; processor < measurements.processors; ++processor) {
        for (const auto& [title, name] :
             {std::pair{"L2 CPUID reflected on all CPUs at once", "reflected_exit"},
              std::pair{"the same, MSR and I/O bitmaps", "reflected_exit_bitmaps"}})
            add(fmt::format("{}, CPU {}", title, processor), fmt::format("{}.{}", name, processor));
    }
    return table;
}

// Each L0 with one CPU and with all.
std::string linux_rows(const SmpMeasurements& measurements) {
    std::vector<std::pair<std::string_view, const SmpFigures*>> all{{"Flatback", &measurements.flatback}};
    if (measurements.kvm) all.emplace_back("KVM as L0", &*measurements.kvm);
    std::string table = "\nDebian's Linux as L1\n";
    const auto add = [&](std::string_view title, const auto& cell) {
        std::vector<std::string> cells;
        for (const auto& [name, of] : all) {
            cells.push_back(cell(of->linux_one, false));
            cells.push_back(cell(of->linux_all, true));
        }
        table += table_row(title, cells);
    };
    if (measurements.kvm) {
        std::vector<std::string> names;
        for (const auto& [name, of] : all) names.insert(names.end(), {std::string{name}, std::string{name}});
        table += table_row("", names);
    }
    add("CPUs of the machine", [&](const RunValues&, bool several) {
        return several ? format_number(measurements.processors) : std::string{"1"};
    });
    add("CPUs online in L1", [](const RunValues& run, bool) { return number(run.value("l1.online")); });
    add("and behind each one's offline and online", [](const RunValues& run, bool several) {
        return several ? number(run.value("l1.online_again")) : std::string{"-"};
    });
    add(measurements.kvm ? "L1's entry (KVM: QEMU's) to user space" : "L1's entry to user space, ticks",
        [](const RunValues& run, bool) { return number(SmpFigures::boot_ticks(run)); });
    add("L1's tasks, KVM loaded: all CPUs' sum, us",
        [](const RunValues& run, bool) { return number(busy_microseconds(run)); });
    return table;
}

std::optional<double> lat_ctx(const SmpMeasurements& measurements, std::string_view column,
                              std::string_view value) {
    return measurements.l2.value(fmt::format("lat_ctx.l2.{}.{}", column, value));
}

// A ring's hand-over within a virtual CPU, and from one to the other.
std::string l2_rows(const SmpMeasurements& measurements) {
    std::string table =
        "\nLinux as L2 with 2 vCPUs, on 2 CPUs: lat_ctx, a ring of P processes that sum K bytes each, "
        "ticks\n";
    table += table_row("", {"on one", "on both"});
    for (const std::string_view column : smp_lat_ctx_columns) {
        table += table_row(column, {number(lat_ctx(measurements, column, "ticks")),
                                    number(lat_ctx(measurements, column, "across_ticks"))});
    }
    return table;
}

Json or_null(const std::optional<double>& value) {
    return value ? Json(*value) : Json(nullptr);
}

Json figures_json(const SmpMeasurements& measurements, const SmpFigures& of) {
    Json out = Json::object();
    const auto put = [&out](std::string_view key, const std::optional<double>& value) {
        out[std::string{key}] = or_null(value);
    };
    const RunValues& bare = of.bare;
    put("cpus", smp(bare, "cpus"));
    put("l1_online", of.linux_all.value("l1.online"));
    put("l1_online_again", of.linux_all.value("l1.online_again"));
    put("l1_boot_ticks", SmpFigures::boot_ticks(of.linux_all));
    put("l1_boot_ticks_one_cpu", SmpFigures::boot_ticks(of.linux_one));
    put("l1_boot_busy_us", busy_microseconds(of.linux_all));
    put("l1_boot_busy_us_one_cpu", busy_microseconds(of.linux_one));
    put("ipi_l1_ticks", smp(bare, "ipi_l1_x2apic"));
    put("ipi_l1_xapic_ticks", smp(bare, "ipi_l1_xapic"));
    put("ipi_l2_ticks", smp(bare, "ipi_l2"));
    put("shootdown_l2_ticks", smp(bare, "shootdown_l2"));
    put("moved_vcpu_first_entry_ticks", smp(bare, "moved_first_entry"));
    put("cleared_vcpu_first_entry_ticks", smp(bare, "cleared_first_entry"));
    put("flushes_per_move", hundredths_of(bare, "flushes_per_move_x100"));
    put("l2_tag_flushes_per_l2_entry", hundredths_of(bare, "flushes_per_entry_x100"));
    put("reflected_exit_alone_ticks", smp(bare, "reflected_exit_alone"));
    out["reflected_exit_ticks"] = by_processor(bare, measurements.processors, "reflected_exit");
    out["reflected_exit_bitmaps_ticks"] =
        by_processor(bare, measurements.processors, "reflected_exit_bitmaps");
    put("init_sipi_ticks", smp(bare, "init_sipi"));
    for (const std::string_view name : {"eoi_x2apic", "timer_x2apic", "eoi_xapic", "timer_xapic"})
        put(fmt::format("{}_ticks", name), smp(bare, name));
    return out;
}

}  // namespace

std::vector<Target> smp_targets(const SmpMeasurements& measurements) {
    const auto measured = judged(measurements, measurements.flatback);
    // Of the same without L0; where nothing is beside, there is nothing to compare.
    std::vector<Target> all{
        {"interrupt L1 to L1, x2APIC, above bare", "0", 300, measured[0]},
        {"INIT and SIPI of a CPU", number(smp(measurements.bare_direct, "init_sipi")), 50000, measured[1]},
        {"flushes per L2 entry where a vCPU stays", "-", 0, measured[2]},
        {"flushes a move of a vCPU, exactly 1", "-", 1, measured[3], measured[3] == 1.0},
        {"reflected exit on all CPUs, dearest - cheapest", "0", 0, measured[4]},
        {"the same above one CPU's alone, %", "0", 1, measured[5]},
        {"Linux L1, all CPUs: boot by one CPU's", "-", 1.5, measured[6]},
    };
    if (!measurements.kvm) return all;
    const auto peer = judged(measurements, *measurements.kvm);
    for (std::size_t index = 0; index < all.size(); ++index)
        all[index].peer = peer[index] ? format_number(*peer[index]) : "-";
    return all;
}

std::string render_smp_table(const SmpMeasurements& measurements) {
    std::string table = bare_rows(measurements) + linux_rows(measurements) + l2_rows(measurements) +
                        render_targets(smp_targets(measurements), measurements.kvm ? "KVM*" : "without");
    if (measurements.kvm) {
        table += fmt::format(
            "\n  no L0: the same L1 on the emulated machine itself; KVM as L0: Debian's Linux, and QEMU with "
            "-smp {}\n  * no flushes:\n    {}\n",
            measurements.processors, flushes_of_kvm);
    } else {
        table += "\n  without: the same L1 on the emulated machine itself, in this run.\n";
    }
    return table + "  A tick is an instruction that each of the emulated processors executes.\n";
}

std::string smp_json(const SmpMeasurements& measurements) {
    Json report = Json::object();
    Json& out = report["smp"];
    out = figures_json(measurements, measurements.flatback);
    for (const Line& line : lines)
        out["without_l0"][std::string{line.name}] = or_null(smp(measurements.bare_direct, line.name));
    for (const std::string_view column : smp_lat_ctx_columns) {
        for (const std::string_view value : smp_lat_ctx_values)
            out["lat_ctx_l2"][std::string{column}][std::string{value}] =
                or_null(lat_ctx(measurements, column, value));
    }
    if (measurements.kvm) {
        Json& kvm = out["kvm"];
        kvm = figures_json(measurements, *measurements.kvm);
        for (const char* const key : {"flushes_per_move", "l2_tag_flushes_per_l2_entry"})
            kvm["not_measured"][key] = flushes_of_kvm;
    }
    report["targets"] = targets_json(smp_targets(measurements));
    return report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace flatback::tools
