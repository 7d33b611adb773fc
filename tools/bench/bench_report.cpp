#include "tools/bench/bench_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "tools/bench/bench_runs.hpp"
#include "tools/bench/bench_targets.hpp"
#include "tools/bench/primitives.hpp"
#include "tools/ground/format_number.hpp"
#include "tools/ground/json.hpp"
#include "tools/measure/lat_ctx.hpp"

namespace flatback::tools {
namespace {

Json json_number(const std::optional<double>& value) {
    if (!value) return nullptr;
    const auto whole = static_cast<std::int64_t>(*value);
    if (static_cast<double>(whole) == *value) return whole;
    return *value;
}

std::uint64_t count_in(const std::map<std::string, std::string>& texts, const std::string& key) {
    std::uint64_t count = 0;
    const auto found = texts.find(key);
    if (found != texts.end())
        std::from_chars(found->second.data(), found->second.data() + found->second.size(), count);
    return count;
}

// The exits of a whole run of L2 Linux by reason, and who took them.
Json exits_of(const RunValues& run, std::string_view mode) {
    const std::string prefix = fmt::format("modes.{}.l2_linux.", mode);
    const auto reflected = run.texts_under(prefix + "exits_reflected.");
    const auto all = run.texts_under(prefix + "exits.");
    Json exits = Json::object();
    for (const auto& [reason, text] : all) {
        const std::uint64_t to_l1 = count_in(reflected, reason);
        const std::uint64_t total = std::max(count_in(all, reason), to_l1);
        exits[reason] = {{"handled", total - to_l1}, {"reflected", to_l1}};
    }
    return exits;
}

// Flatback's mode of a level "flatback.MODE…".
std::string_view mode_of(const LatCtxLevel& level) {
    for (const std::string_view mode : modes) {
        if (level.key.find(mode) != std::string_view::npos) return mode;
    }
    return {};
}

std::string cell(const std::optional<double>& value) {
    return value ? format_number(*value) : "-";
}

std::string bench_row(std::string_view title, const std::vector<std::string>& cells) {
    std::string line = fmt::format("  {:<46}", title);
    for (const std::string& text : cells) line += fmt::format(" {:>14}", text);
    line.erase(line.find_last_not_of(' ') + 1);
    return line + "\n";
}

std::string per_entry_table(const Measurements& measurements, const std::vector<LatCtxLevel>& levels) {
    std::string text = "\nFor each L2 entry, all columns together\n" +
                       bench_row("", {"L0 exits", "L2-tag flushes", "L1-tag flushes", "of any tag*"});
    for (const LatCtxLevel& level : levels) {
        if (!level.key.starts_with("flatback.") && level.tags_told_apart) continue;
        const auto count = [&](std::string_view counter) {
            return cell(lat_ctx_per_l2_entry(measurements, level, counter));
        };
        const bool told = level.tags_told_apart;
        const std::string any = told                        ? "-"
                                : level.all_flushes_counted ? count(any_tag_flushes)
                                                            : ">= " + count(least_tag_flushes);
        text += bench_row(level.title, {count("l0_exits"), told ? count("l2_tag_flushes") : "-",
                                        told ? count("l1_tag_flushes") : "-", any});
    }
    return text;
}

std::string primitive_table(const Measurements& measurements, bool with_kvm) {
    std::string text = "\nPrimitives, ticks: through Linux as L1, then by the bare L1\n" +
                       bench_row("", {"Flatback", with_kvm ? "KVM" : "", with_kvm ? "KVM/Flatback" : ""});
    for (const Primitive& each : primitives(measurements)) {
        if (each.only_kvm && !with_kvm) continue;
        std::vector<std::string> cells{cell(each.flatback)};
        if (with_kvm) {
            cells.push_back(cell(each.kvm));
            const bool comparable = each.kvm && each.flatback && *each.flatback > 0;
            cells.push_back(comparable ? fmt::format("{:.1f}", *each.kvm / *each.flatback) : "-");
        }
        text += bench_row(each.title, cells);
    }
    return text;
}

std::string boot_table(const Measurements& measurements, bool with_kvm) {
    std::string text = "\nBoot to user space, ticks from its VMM's start\n" + bench_row("", {"L1", "L2"});
    const std::string_view first = modes.front();
    text += bench_row("Flatback",
                      {cell(l1_boot_ticks(measurements, first)), cell(l2_boot_ticks(measurements, first))});
    if (with_kvm) {
        const RunValues& kvm = measurements.of_mode(kvm_name);
        text += bench_row("KVM", {cell(kvm.value("boot.l1")), cell(kvm.value("boot.l2"))});
    }
    return text;
}

std::string target_table(const Measurements& measurements, bool with_kvm) {
    std::string text = "\nTargets\n" + bench_row("", {"measured", "at most", with_kvm ? "KVM" : "", ""});
    for (const BenchTarget& target : bench_targets(measurements, with_kvm)) {
        text += bench_row(target.what,
                          {cell(target.measured), format_number(target.to_reach),
                           with_kvm ? cell(target.peer) : "", target.reached() ? "reached" : "not reached"});
    }
    return text;
}

}  // namespace

std::vector<std::string> missing_bench_values(const Measurements& measurements, bool with_kvm) {
    std::vector<std::string> missing = missing_values(measurements);
    const auto add = [&missing](const std::vector<std::string>& more) {
        missing.insert(missing.end(), more.begin(), more.end());
    };
    add(missing_primitives(measurements, with_kvm));
    for (const LatCtxLevel& level : lat_ctx_levels) {
        if (level.key.starts_with("flatback.") && level.counted &&
            exits_of(measurements.of_mode(level.run), mode_of(level)).empty())
            missing.push_back(fmt::format("exits.{}", level.key));
    }
    add(missing_lat_ctx(measurements, bench_levels(with_kvm)));
    if (!with_kvm) return missing;
    for (const std::string_view key : {"boot.l1", "boot.l2"}) {
        if (!measurements.of_mode(kvm_name).value(key))
            missing.push_back(fmt::format("{} ({})", key, kvm_name));
    }
    return missing;
}

std::string bench_json(const Measurements& measurements, bool with_kvm) {
    Json report = Json::object();
    add_lat_ctx(report, measurements, bench_levels(with_kvm));
    for (const Primitive& each : primitives(measurements)) {
        if (each.only_kvm && !with_kvm) continue;
        report["primitives"]["flatback"][std::string{each.name}] = json_number(each.flatback);
        if (with_kvm) report["primitives"]["kvm"][std::string{each.name}] = json_number(each.kvm);
    }
    if (with_kvm) {
        const RunValues& kvm = measurements.of_mode(kvm_name);
        report["boot"]["kvm"] = {{"l1", json_number(kvm.value("boot.l1"))},
                                 {"l2", json_number(kvm.value("boot.l2"))}};
    }
    constexpr std::string_view flatback = "flatback.";
    for (const LatCtxLevel& level : lat_ctx_levels) {
        if (!level.key.starts_with(flatback) || !level.counted) continue;
        report["exits"]["flatback"][std::string{level.key.substr(flatback.size())}] =
            exits_of(measurements.of_mode(level.run), mode_of(level));
    }
    for (const BenchTarget& target : bench_targets(measurements, with_kvm)) {
        report["targets"].push_back({{"what", target.what},
                                     {"measured", json_number(target.measured)},
                                     {"at_most", json_number(target.to_reach)},
                                     {"kvm", with_kvm ? json_number(target.peer) : Json(nullptr)},
                                     {"reached", target.reached()}});
    }
    return report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string bench_table(const Measurements& measurements, bool with_kvm) {
    const auto levels = bench_levels(with_kvm);
    std::string text = lat_ctx_table(measurements, levels) + per_entry_table(measurements, levels) +
                       primitive_table(measurements, with_kvm) + boot_table(measurements, with_kvm) +
                       target_table(measurements, with_kvm);
    if (with_kvm) {
        text +=
            "\n  * KVM counts the flushes of all tags in one number, without those that an INVVPID of L1's "
            "makes it do:\n    where L1 uses VPIDs there were at least as many.\n";
    }
    return text +
           "\n  A tick is an instruction that the emulated processor executes; a TLB miss or a world switch "
           "costs "
           "nothing more\n  (docs/bench.md).\n";
}

}  // namespace flatback::tools
