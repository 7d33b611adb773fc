#include "tools/table/table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "tools/ground/format_number.hpp"
#include "tools/measure/lat_ctx.hpp"
#include "tools/table/peer.hpp"
#include "tools/table/targets.hpp"

namespace flatback::tools {
namespace {

constexpr std::string_view not_measured = "not measured";

std::string cell(const std::optional<double>& value, std::string_view otherwise) {
    return value ? format_number(*value) : std::string{otherwise};
}

std::string row(std::string_view title, const std::vector<std::string>& cells) {
    return table_row(title, cells);
}

std::string heading(std::string_view title) {
    return fmt::format("\n{}\n", title);
}

std::vector<std::string> mode_titles() {
    return {modes.begin(), modes.end()};
}

std::string l1_view(const Measurements& measurements) {
    std::string table = heading("What L1, Debian's Linux with KVM, sees") + row("nested-vpid", mode_titles());
    // The VMX flags tell what the capability MSRs offer. The CPU flag vpid does not: since 5.6 Linux looks
    // for VPID's bit number in the word of the pin-based controls (arch/x86/kernel/cpu/feat_ctl.c), where it
    // is virtual NMIs'. The row stays, because that flag is what people look at.
    struct Flag {
        std::string_view title;
        std::string_view key;
        std::string_view word;
    };
    for (const Flag& flag :
         {Flag{"CPU flag vmx", "l1.cpu_flags", "vmx"}, Flag{"CPU flag ept", "l1.cpu_flags", "ept"},
          Flag{"CPU flag vpid (Linux tests virtual NMIs)", "l1.cpu_flags", "vpid"},
          Flag{"VMX flag vpid", "l1.vmx_flags", "vpid"}}) {
        std::vector<std::string> cells;
        for (const std::string_view mode : modes) {
            const auto flags = measurements.of_mode(mode).text(flag.key);
            if (!flags) {
                cells.emplace_back(not_measured);
                continue;
            }
            const auto words = words_of(*flags);
            cells.emplace_back(std::ranges::find(words, flag.word) != words.end() ? "yes" : "no");
        }
        table += row(flag.title, cells);
    }
    std::set<std::string> parameters;
    for (const std::string_view mode : modes) {
        for (const auto& [name, value] : measurements.of_mode(mode).texts_under("l1.kvm_intel."))
            parameters.insert(name);
    }
    for (const std::string& parameter : parameters) {
        std::vector<std::string> cells;
        for (const std::string_view mode : modes) {
            cells.push_back(measurements.of_mode(mode).text("l1.kvm_intel." + parameter).value_or("-"));
        }
        table += row("kvm_intel " + parameter, cells);
    }
    return table;
}

std::string_view mode_value_title(std::string_view key) {
    if (key == "l1_cpuid_ticks") return "L1 CPUID, ticks";
    if (key == "l2_cpuid_reflected_ticks") return "L2 CPUID reflected to L1, ticks";
    if (key == "l2_io_ticks") return "L2 I/O handled by L1's VMM, ticks";
    if (key == "alternating_vpid12_ticks") return "two vpid12 taking turns, ticks per exit";
    if (key == "per_l2_entry.l0_exits") return "L0 exits per L2 entry";
    if (key == "per_l2_entry.l2_tag_flushes") return "flushes of L2 tags per L2 entry";
    if (key == "per_l2_entry.l1_tag_flushes") return "flushes of L1's tag per L2 entry";
    return key;
}

std::string mode_table(const Measurements& measurements) {
    auto titles = mode_titles();
    titles.insert(titles.end(), {"peer, vpid*", "peer, none*"});
    std::string table = heading("Linux with KVM as L1, by nested-vpid") + row("", titles);
    std::vector<std::string> results;
    for (const std::string_view mode : modes) {
        results.push_back(measurements.of_mode(mode)
                              .text(fmt::format("modes.{}.l2_result", mode))
                              .value_or(std::string{not_measured}));
    }
    table += row("L2 result", results);
    for (const PeerMode& peer : peer_modes) {
        std::vector<std::string> cells;
        for (const std::string_view mode : modes) {
            cells.push_back(cell(measurements.of_mode(mode).value(fmt::format("modes.{}.{}", mode, peer.key)),
                                 not_measured));
        }
        cells.push_back(cell(peer.nested_vpid, "-"));
        cells.push_back(cell(peer.no_nested_vpid, "-"));
        table += row(mode_value_title(peer.key), cells);
    }
    return table;
}

std::string bare_table(const Measurements& measurements) {
    std::string table = heading("A bare L1 without an operating system, ticks, nested-vpid=mapped") +
                        row("shadow VMCS", {"on", "off", "peer, on*", "peer, off*"});
    for (const std::string_view name : bare_values) {
        const std::string key = fmt::format("bare_l1.{}", name);
        const auto* const peer = std::ranges::find(peer_bare, name, &PeerBare::key);
        const bool known = peer != peer_bare.end();
        table += row(name, {cell(measurements.bare.value(key), not_measured),
                            cell(measurements.bare_no_shadow.value(key), not_measured),
                            cell(known ? peer->shadow_on : std::nullopt, "-"),
                            cell(known ? peer->shadow_off : std::nullopt, "-")});
    }
    return table;
}

}  // namespace

std::string table_row(std::string_view title, const std::vector<std::string>& cells) {
    std::string line = fmt::format("  {:<46}", title);
    for (const std::string& text : cells) line += fmt::format(" {:>13}", text);
    while (line.back() == ' ') line.pop_back();
    return line + "\n";
}

std::string render_targets(const std::vector<Target>& targets, std::string_view peer) {
    std::string table = heading("Targets") + row("", {"measured", "to reach", std::string{peer}, ""});
    for (const Target& target : targets) {
        const std::string verdict = !target.measured ? "" : target.reached() ? "reached" : "not reached";
        table += row(target.operation, {cell(target.measured, not_measured), format_number(target.to_reach),
                                        target.peer, verdict});
    }
    return table;
}

std::string render_table(const Measurements& measurements) {
    return l1_view(measurements) + mode_table(measurements) + bare_table(measurements) +
           lat_ctx_table(measurements) + render_targets(targets(measurements), "peer*") +
           fmt::format(
               "\n  * the peer's figures: {}; not measured in this run\n"
               "  A tick is an instruction that the emulated processor executes.\n",
               peer_title);
}

}  // namespace flatback::tools
