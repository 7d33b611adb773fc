#include "tools/watch/watch_report.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace flatback::tools {
namespace {

using watch::Counts;
using watch::Level;

constexpr std::array<Level, 3> levels{Level::l0, Level::l1, Level::l2};

std::optional<double> per_l2_entry(const Counts& counts, std::uint64_t count) {
    const std::uint64_t entries = counts.of(Level::l2).entries;
    if (entries == 0) return std::nullopt;
    return static_cast<double>(count) / static_cast<double>(entries);
}

std::string number(std::optional<double> value) {
    return value ? fmt::format("{:.1f}", *value) : "-";
}

nlohmann::ordered_json json_number(std::optional<double> value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

std::uint64_t sum(const Counts& counts, std::uint64_t machine::TlbCounters::*member) {
    std::uint64_t total = 0;
    for (const Level level : levels) total += counts.of(level).tlb.*member;
    return total;
}

}  // namespace

std::string describe(const watch::StaleAccess& access) {
    const std::string where =
        access.refused ? "was refused by EPT" : fmt::format("went to host-physical {:#x}", access.physical);
    return fmt::format("tick {}: linear {:#x} {}; permitted too: {} (tick {})", access.tick, access.linear,
                       where, machine::describe(access.other), access.other_made_at);
}

std::optional<double> misses_per_l2_entry(const Counts& counts, Level level) {
    return per_l2_entry(counts, counts.of(level).tlb.misses);
}

std::optional<double> misses_per_l2_entry(const Counts& counts) {
    return per_l2_entry(counts, sum(counts, &machine::TlbCounters::misses));
}

std::optional<double> walk_references_per_l2_entry(const Counts& counts) {
    return per_l2_entry(counts, sum(counts, &machine::TlbCounters::walk_references));
}

std::string watch_table(std::span<const WatchedMode> modes) {
    std::string text = fmt::format("{:<7}{:>7}{:>9}{:>15}{:>12}{:>9}{:>8}{:>8}{:>8}{:>12}{:>12}{:>9}\n",
                                   "mode", "stale", "windows", "instructions", "L2 entries", "misses",
                                   "of L0", "of L1", "of L2", "references", "L2 switches", "misses");
    text += fmt::format("{:<50}{:>34}{:>12}{:>21}\n", "", "a L2 entry, by the level that ran", "a L2 entry",
                        "a switch");
    for (const WatchedMode& mode : modes) {
        const Counts& counts = mode.counts;
        const std::uint64_t switches = counts.of(Level::l2).mov_to_cr3;
        text += fmt::format(
            "{:<7}{:>7}{:>9}{:>15}{:>12}{:>9}{:>8}{:>8}{:>8}{:>12}{:>12}{:>9}\n", mode.mode, counts.stale,
            counts.windows, counts.instructions, counts.of(Level::l2).entries,
            number(misses_per_l2_entry(counts)), number(misses_per_l2_entry(counts, Level::l0)),
            number(misses_per_l2_entry(counts, Level::l1)), number(misses_per_l2_entry(counts, Level::l2)),
            number(walk_references_per_l2_entry(counts)), switches,
            switches == 0
                ? "-"
                : fmt::format("{:.2f}", static_cast<double>(sum(counts, &machine::TlbCounters::misses)) /
                                            static_cast<double>(switches)));
    }
    for (const WatchedMode& mode : modes) {
        const Counts& counts = mode.counts;
        text += fmt::format("{}: hardware INVVPID {}, INVEPT {}; INVLPG {}, INVPCID {}\n", mode.mode,
                            counts.invvpid, counts.invept, counts.invlpg, counts.invpcid);
        for (const std::string& line : mode.stale) text += fmt::format("{}: stale: {}\n", mode.mode, line);
        if (counts.unexplained != 0)
            text += fmt::format(
                "{}: {} accesses went where the structures seen do not lead; they are not judged\n",
                mode.mode, counts.unexplained);
        for (const std::string& line : mode.unexplained) text += fmt::format("{}: {}\n", mode.mode, line);
    }
    return text;
}

std::string watch_json(std::span<const WatchedMode> modes) {
    nlohmann::ordered_json json;
    json["modes"] = nlohmann::ordered_json::object();
    for (const WatchedMode& mode : modes) {
        const Counts& counts = mode.counts;
        auto& object = json["modes"][mode.mode];
        object["stale"] = counts.stale;
        object["unexplained"] = counts.unexplained;
        object["windows"] = counts.windows;
        object["instructions"] = counts.instructions;
        object["l2_entries"] = counts.of(Level::l2).entries;
        object["l2_context_switches"] = counts.of(Level::l2).mov_to_cr3;
        for (const Level level : levels) {
            object["misses_per_l2_entry"][std::string{watch::level_names[static_cast<std::size_t>(level)]}] =
                json_number(misses_per_l2_entry(counts, level));
        }
        object["walk_references_per_l2_entry"] = json_number(walk_references_per_l2_entry(counts));
        object["stale_accesses"] = mode.stale;
    }
    return json.dump(1) + "\n";
}

}  // namespace flatback::tools
