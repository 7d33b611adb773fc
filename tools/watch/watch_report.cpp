#include "tools/watch/watch_report.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace flatback::tools {
namespace {

using watch::Counts;
using watch::Level;
using watch::PhaseEstimate;

constexpr std::array<Level, 3> levels{Level::l0, Level::l1, Level::l2};

std::optional<double> per_l2_entry(const PhaseEstimate& phase, double count) {
    const double entries = phase.of(Level::l2).entries;
    if (entries == 0) return std::nullopt;
    return count / entries;
}

std::optional<double> per_l2_switch(const PhaseEstimate& phase, double count) {
    const double switches = phase.of(Level::l2).mov_to_cr3;
    if (switches == 0) return std::nullopt;
    return count / switches;
}

std::string number(std::optional<double> value, int digits = 1) {
    return value ? fmt::format("{:.{}f}", *value, digits) : "-";
}

nlohmann::ordered_json json_number(std::optional<double> value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

double sum(const PhaseEstimate& phase, double PhaseEstimate::OfLevel::*member) {
    double total = 0;
    for (const Level level : levels) total += phase.of(level).*member;
    return total;
}

std::string recorded_flushes(std::string_view mode, const FlushCounts& flushes) {
    std::string text = fmt::format(
        "{}: L0's trace has {} flushes: {} not executed, {} executed otherwise; {} executed without a "
        "record\n",
        mode, flushes.recorded, flushes.not_executed, flushes.otherwise, flushes.not_recorded);
    for (const auto& [cause, count] : flushes.causes)
        text += fmt::format("{}:   {} {}\n", mode, count, cause);
    for (const std::string& line : flushes.examples) text += fmt::format("{}: {}\n", mode, line);
    return text;
}

}  // namespace

std::string describe(const watch::StaleAccess& access) {
    const std::string where =
        access.refused ? "was refused by EPT" : fmt::format("went to host-physical {:#x}", access.physical);
    return fmt::format("tick {}: linear {:#x} {}; permitted too: {} (tick {})", access.tick, access.linear,
                       where, machine::describe(access.other), access.other_made_at);
}

std::optional<double> misses_per_l2_entry(const PhaseEstimate& phase, Level level) {
    return per_l2_entry(phase, phase.of(level).misses);
}

std::optional<double> misses_per_l2_entry(const PhaseEstimate& phase) {
    return per_l2_entry(phase, sum(phase, &PhaseEstimate::OfLevel::misses));
}

std::optional<double> misses_per_l2_switch(const PhaseEstimate& phase) {
    return per_l2_switch(phase, sum(phase, &PhaseEstimate::OfLevel::misses));
}

std::optional<double> walk_references_per_l2_entry(const PhaseEstimate& phase) {
    return per_l2_entry(phase, sum(phase, &PhaseEstimate::OfLevel::walk_references));
}

bool is_good(const WatchedMode& mode) {
    if (mode.counts.stale != 0) return false;
    return !mode.flushes || (mode.flushes->not_executed == 0 && mode.flushes->not_recorded == 0 &&
                             mode.flushes->otherwise == 0);
}

std::string watch_table(std::span<const WatchedMode> watched) {
    std::string text = fmt::format("{:<7}{:>7}{:>9}{:>15}{:>12}{:>9}{:>8}{:>8}{:>8}{:>12}{:>12}{:>9}\n",
                                   "mode", "stale", "windows", "instructions", "L2 entries", "misses",
                                   "of L0", "of L1", "of L2", "references", "L2 switches", "misses");
    text += fmt::format("{:<50}{:>34}{:>12}{:>21}\n", "", "a L2 entry, by the level that ran", "a L2 entry",
                        "a switch");
    for (const WatchedMode& mode : watched) {
        const Counts& counts = mode.counts;
        text += fmt::format("{:<7}{:>7}{:>9}{:>15}{:>12}{:>9}{:>8}{:>8}{:>8}{:>12}{:>12}{:>9}\n", mode.mode,
                            counts.stale, counts.windows, counts.instructions, counts.of(Level::l2).entries,
                            number(misses_per_l2_entry(mode.phase)),
                            number(misses_per_l2_entry(mode.phase, Level::l0)),
                            number(misses_per_l2_entry(mode.phase, Level::l1)),
                            number(misses_per_l2_entry(mode.phase, Level::l2)),
                            number(walk_references_per_l2_entry(mode.phase)), counts.of(Level::l2).mov_to_cr3,
                            number(misses_per_l2_switch(mode.phase), 2));
    }
    for (const WatchedMode& mode : watched) {
        const Counts& counts = mode.counts;
        text += fmt::format(
            "{}: hardware INVVPID {}, INVEPT {}; INVLPG {}, INVPCID {}; by their own MOVs to CR3 and CR4 L1 "
            "flushed {}, L2 {} times\n",
            mode.mode, counts.invvpid, counts.invept, counts.invlpg, counts.invpcid,
            counts.of(Level::l1).flushes, counts.of(Level::l2).flushes);
        text += fmt::format(
            "{}: the windows stand for {:.1f} million ticks with {:.0f} L2 entries{}\n", mode.mode,
            static_cast<double>(mode.phase.ticks()) / 1e6, mode.phase.of(Level::l2).entries,
            mode.phase.empty_windows() == 0
                ? ""
                : fmt::format("; {} ended before anything was counted", mode.phase.empty_windows()));
        if (mode.flushes) text += recorded_flushes(mode.mode, *mode.flushes);
        for (const std::string& line : mode.stale) text += fmt::format("{}: stale: {}\n", mode.mode, line);
        for (const WatchedCheck& check : mode.checks) {
            if (check.stale != 0)
                text += fmt::format("{}: {}: {} stale accesses\n", mode.mode, check.name, check.stale);
        }
        if (counts.unexplained != 0)
            text += fmt::format(
                "{}: {} accesses went where the structures seen do not lead; they are not judged\n",
                mode.mode, counts.unexplained);
        for (const std::string& line : mode.unexplained) text += fmt::format("{}: {}\n", mode.mode, line);
    }
    return text;
}

std::string watch_json(std::span<const WatchedMode> watched, std::string_view guest, std::string_view tlb) {
    nlohmann::ordered_json json;
    json["guest"] = guest;
    json["tlb"] = tlb;
    json["modes"] = nlohmann::ordered_json::object();
    for (const WatchedMode& mode : watched) {
        const Counts& counts = mode.counts;
        auto& object = json["modes"][mode.mode];
        object["stale"] = counts.stale;
        object["unexplained"] = counts.unexplained;
        object["windows"] = counts.windows;
        object["instructions"] = counts.instructions;
        object["l2_entries"] = counts.of(Level::l2).entries;
        object["l2_context_switches"] = counts.of(Level::l2).mov_to_cr3;
        object["phase"]["ticks"] = mode.phase.ticks();
        object["phase"]["l2_entries"] = mode.phase.of(Level::l2).entries;
        object["phase"]["l2_context_switches"] = mode.phase.of(Level::l2).mov_to_cr3;
        for (const PhaseEstimate::Part& part : mode.phase.parts()) {
            nlohmann::ordered_json each{{"ticks", part.ticks},
                                        {"counted_ticks", part.window.ticks},
                                        {"counted_l2_entries", part.window.levels[2].entries},
                                        {"l2_entries", nullptr}};
            if (part.l2_entries) each["l2_entries"] = *part.l2_entries;
            for (const Level level : levels) {
                const auto index = static_cast<std::size_t>(level);
                each["misses"][std::string{watch::level_names[index]}] = part.window.levels[index].tlb.misses;
            }
            object["parts"].push_back(std::move(each));
        }
        for (const Level level : levels) {
            const std::string name{watch::level_names[static_cast<std::size_t>(level)]};
            object["misses_per_l2_entry"][name] = json_number(misses_per_l2_entry(mode.phase, level));
            object["misses_per_l2_context_switch"][name] =
                json_number(per_l2_switch(mode.phase, mode.phase.of(level).misses));
        }
        object["walk_references_per_l2_entry"] = json_number(walk_references_per_l2_entry(mode.phase));
        object["stale_accesses"] = mode.stale;
        for (const WatchedCheck& check : mode.checks)
            object["checks"].push_back(
                {{"name", check.name}, {"passed", check.passed}, {"stale", check.stale}});
        if (mode.flushes) {
            auto& flushes = object["l0_trace"];
            flushes["flushes"] = mode.flushes->recorded;
            flushes["not_executed"] = mode.flushes->not_executed;
            flushes["executed_otherwise"] = mode.flushes->otherwise;
            flushes["not_recorded"] = mode.flushes->not_recorded;
            flushes["causes"] = mode.flushes->causes;
        }
    }
    return json.dump(1) + "\n";
}

}  // namespace flatback::tools
