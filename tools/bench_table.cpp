#include "tools/bench_table.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "tools/table.hpp"

namespace flatback::tools {
namespace {

constexpr std::string_view nothing = "-";

std::string cell(const std::optional<double>& value) {
    return value ? format_number(*value) : std::string{nothing};
}

std::string whole(const std::optional<double>& value) {
    constexpr double half = 0.5;
    return value ? format_number(static_cast<double>(static_cast<std::int64_t>(*value + half)))
                 : std::string{nothing};
}

// A row: a title and right-aligned columns.
std::string row(std::string_view title, const std::vector<std::string>& cells, int width) {
    std::string line = fmt::format("  {:<40}", title);
    for (const std::string& text : cells) line += fmt::format(" {:>{}}", text, width);
    line.erase(line.find_last_not_of(' ') + 1);
    return line + "\n";
}

// A table over lat_ctx's columns, one system a row.
template <typename Cell>
std::string by_column(std::string_view title, const BenchResults& results, Cell cell_of) {
    constexpr int width = 10;
    std::string table =
        fmt::format("\n{}\n", title) + row("", {lat_ctx_columns.begin(), lat_ctx_columns.end()}, width);
    for (const BenchSystem& system : bench_systems(results.with_kvm)) {
        std::vector<std::string> cells;
        for (const std::string_view name : lat_ctx_columns) {
            const LatCtx* const column = results.column(system.name, name);
            cells.push_back(column == nullptr ? std::string{nothing} : cell_of(*column));
        }
        // Nobody counts beneath some systems.
        if (std::ranges::all_of(cells, [](const std::string& text) { return text == nothing; })) continue;
        table += row(system.title, cells, width);
    }
    return table;
}

std::string per_entry_table(const BenchResults& results) {
    constexpr int width = 15;
    std::string table = "\nFor each L2 entry, all columns together\n" +
                        row("", {"L0 exits", "L2-tag flushes", "L1-tag flushes", "TLB flushes*"}, width);
    for (const BenchSystem& system : bench_systems(results.with_kvm)) {
        if (system.counters == Counters::none) continue;
        table += row(system.title,
                     {cell(results.per_l2_entry(system.name, &LatCtx::l0_exits)),
                      cell(results.per_l2_entry(system.name, &LatCtx::l2_tag_flushes)),
                      cell(results.per_l2_entry(system.name, &LatCtx::l1_tag_flushes)),
                      cell(results.per_l2_entry(system.name, &LatCtx::tlb_flushes))},
                     width);
    }
    return table;
}

std::string primitive_table(const BenchResults& results) {
    constexpr int width = 12;
    std::string table = "\nPrimitives, ticks (l1_…, l2_… without \"L1\", \"L2\" in words: a bare L1)\n" +
                        row("", {"Flatback", results.with_kvm ? "KVM" : ""}, width);
    for (const Primitive& primitive : results.primitives) {
        table +=
            row(primitive.title,
                {cell(primitive.flatback), results.with_kvm ? cell(primitive.kvm) : std::string{}}, width);
    }
    return table;
}

std::string boot_table(const BenchResults& results) {
    constexpr int width = 16;
    const auto ticks = [&results](std::string_view place) -> std::optional<double> {
        const auto found = results.boot.find(place);
        return found == results.boot.end() ? std::nullopt : std::optional{found->second};
    };
    std::string table = "\nBoot to user space, ticks from the VMM's start\n" + row("", {"L1", "L2"}, width);
    table += row("Flatback", {cell(ticks("flatback.l1")), cell(ticks("flatback.l2"))}, width);
    if (results.with_kvm) table += row("KVM", {cell(ticks("kvm.l1")), cell(ticks("kvm.l2"))}, width);
    return table;
}

std::string target_table(const BenchResults& results) {
    constexpr int width = 14;
    std::string table = "\nTargets\n" + row("", {"measured", "at most", "peer", ""}, width);
    for (const BenchTarget& target : bench_targets(results)) {
        table += row(target.what,
                     {cell(target.measured), format_number(target.to_reach), cell(target.peer),
                      target.reached() ? "reached" : "not reached"},
                     width);
    }
    return table;
}

// By how many per cent the slowest column is above bare Linux.
std::optional<double> worst_above_bare(const BenchResults& results, std::string_view system) {
    std::optional<double> worst;
    for (const std::string_view name : lat_ctx_columns) {
        const LatCtx* const bare = results.column("bare", name);
        const LatCtx* const column = results.column(system, name);
        if (bare == nullptr || column == nullptr || bare->ticks <= 0) return std::nullopt;
        constexpr double per_cent = 100;
        const double above = (column->ticks / bare->ticks - 1) * per_cent;
        worst = std::max(worst.value_or(above), above);
    }
    return worst;
}

}  // namespace

std::vector<BenchTarget> bench_targets(const BenchResults& results) {
    const auto boot = [&results](std::string_view place) -> std::optional<double> {
        const auto found = results.boot.find(place);
        return found == results.boot.end() ? std::nullopt : std::optional{found->second};
    };
    const auto ticks = [&results](std::string_view system, std::string_view column) -> std::optional<double> {
        const LatCtx* const value = results.column(system, column);
        return value == nullptr ? std::nullopt : std::optional{value->ticks};
    };
    std::vector<BenchTarget> targets{
        {"L2 Linux boots, ticks", boot("flatback.l2"), 1e9, boot("kvm.l2")},
        {"L2 above bare Linux, worst column, per cent", worst_above_bare(results, "flatback.mapped"), 2,
         worst_above_bare(results, "kvm.vpid")},
        {"L2-tag flushes per L2 entry, mapped",
         results.per_l2_entry("flatback.mapped", &LatCtx::l2_tag_flushes), 0,
         results.per_l2_entry("kvm.vpid", &LatCtx::tlb_flushes)},
        {"L1 ept=0, 8p/16K, ticks a switch", ticks("flatback.mapped_ept0", "8p/16K"), 20'000,
         ticks("kvm.vpid_ept0", "8p/16K")},
    };
    // What is to be reached is the peer's: it has to be measured beside.
    if (const auto exits = results.per_l2_entry("kvm.vpid", &LatCtx::l0_exits)) {
        targets.push_back({"L0 exits per L2 entry",
                           results.per_l2_entry("flatback.mapped", &LatCtx::l0_exits), *exits, exits});
    }
    if (const auto own = results.primitive(l0_ticks_per_l2_entry, true)) {
        constexpr double tenth = 0.1;
        targets.push_back(
            {"L0's ticks per L2 entry", results.primitive(l0_ticks_per_l2_entry, false), *own * tenth, own});
    }
    return targets;
}

std::string render_bench(const BenchResults& results) {
    std::string text = by_column("lat_ctx: ticks a switch, with pipe and sum", results,
                                 [](const LatCtx& column) { return whole(column.ticks); });
    text += by_column("L2 entries a switch", results,
                      [](const LatCtx& column) { return cell(column.l2_entries); });
    text +=
        by_column("L0 exits a switch", results, [](const LatCtx& column) { return cell(column.l0_exits); });
    text += by_column("Flushes of L2's tag a switch", results,
                      [](const LatCtx& column) { return cell(column.l2_tag_flushes); });
    text += by_column("Flushes of L1's tag a switch", results,
                      [](const LatCtx& column) { return cell(column.l1_tag_flushes); });
    if (results.with_kvm) {
        text += by_column("TLB flushes a switch*", results,
                          [](const LatCtx& column) { return cell(column.tlb_flushes); });
    }
    text += per_entry_table(results) + primitive_table(results) + boot_table(results) + target_table(results);
    if (results.with_kvm) {
        text +=
            "\n  * KVM counts flushes of guests' tags in one number, and leaves out what L1's INVVPID makes "
            "it do.\n";
    }
    return text +
           "\n  A tick is an instruction that the emulated processor executes; TLB misses and world switches "
           "cost "
           "none (docs/bench.md).\n";
}

}  // namespace flatback::tools
