#include "tools/measure/lat_ctx.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tools/ground/format_number.hpp"

namespace flatback::tools {
namespace {

std::string key_of(const LatCtxLevel& level, std::string_view column, std::string_view value) {
    // The benchmark prints what its L0 gives it, and does not know whose flushes those are.
    const bool together = value == any_tag_flushes || value == least_tag_flushes;
    const std::string_view printed = together ? std::string_view{"l2_tag_flushes"} : value;
    return fmt::format("lat_ctx.{}.{}.{}", level.key, column, printed);
}

std::vector<std::string_view> values_of(const LatCtxLevel& level) {
    std::vector<std::string_view> values{lat_ctx_ticks.begin(), lat_ctx_ticks.end()};
    if (!level.counted) return values;
    for (const std::string_view counter : lat_ctx_counters) {
        if (level.tags_told_apart || !counter.ends_with("_tag_flushes")) values.push_back(counter);
    }
    if (!level.tags_told_apart)
        values.push_back(level.all_flushes_counted ? any_tag_flushes : least_tag_flushes);
    return values;
}

std::optional<double> difference(const std::optional<double>& after, const std::optional<double>& before) {
    if (!after || !before) return std::nullopt;
    return *after - *before;
}

std::string_view counter_title(std::string_view counter) {
    if (counter == "l2_entries") return "L2 entries per switch";
    if (counter == "l0_exits") return "L0 exits per switch";
    if (counter == "l2_tag_flushes") return "flushes of L2 tags per switch";
    if (counter == any_tag_flushes) return "flushes of any tag per switch";
    if (counter == least_tag_flushes) return "at least, of any tag per switch";
    return "flushes of L1's tag per switch";
}

std::string table_row(std::string_view title, const std::vector<std::string>& cells) {
    std::string line = fmt::format("  {:<32}", title);
    for (const std::string& text : cells) line += fmt::format(" {:>9}", text);
    return line + "\n";
}

// One value of all levels that have it, a row each.
std::string block(const Measurements& measurements, LatCtxLevels levels, std::string_view title,
                  std::string_view value) {
    std::string text = table_row(title, {lat_ctx_columns.begin(), lat_ctx_columns.end()});
    for (const LatCtxLevel& level : levels) {
        const auto values = values_of(level);
        if (std::ranges::find(values, value) == values.end()) continue;
        std::vector<std::string> cells;
        for (const std::string_view column : lat_ctx_columns) {
            const auto number = lat_ctx_value(measurements, level, column, value);
            cells.push_back(number ? format_number(*number) : "-");
        }
        text += table_row("  " + std::string{level.title}, cells);
    }
    return text;
}

}  // namespace

const LatCtxLevel& lat_ctx_level(std::string_view key) {
    return *std::ranges::find(lat_ctx_levels, key, &LatCtxLevel::key);
}

std::optional<double> lat_ctx_value(const Measurements& measurements, const LatCtxLevel& level,
                                    std::string_view column, std::string_view value) {
    return measurements.of_mode(level.run).value(key_of(level, column, value));
}

std::optional<double> lat_ctx_per_l2_entry(const Measurements& measurements, const LatCtxLevel& level,
                                           std::string_view counter) {
    double counted = 0;
    double entries = 0;
    for (const std::string_view column : lat_ctx_columns) {
        const auto count = lat_ctx_value(measurements, level, column, counter);
        const auto entered = lat_ctx_value(measurements, level, column, "l2_entries");
        if (!count || !entered) return std::nullopt;
        counted += *count;
        entries += *entered;
    }
    if (entries == 0) return std::nullopt;
    return counted / entries;
}

std::optional<double> l1_boot_ticks(const Measurements& measurements, std::string_view run) {
    const RunValues& values = measurements.of_mode(run);
    return difference(values.value("l1.user_tsc"), values.value("l0.l1_entry_tsc"));
}

std::optional<double> l2_boot_ticks(const Measurements& measurements, std::string_view run) {
    return measurements.of_mode(run).value("boot.l2");
}

std::vector<std::string> missing_lat_ctx(const Measurements& measurements, LatCtxLevels levels) {
    std::vector<std::string> missing;
    for (const LatCtxLevel& level : levels) {
        for (const std::string_view column : lat_ctx_columns) {
            for (const std::string_view value : values_of(level)) {
                if (!lat_ctx_value(measurements, level, column, value))
                    missing.push_back(key_of(level, column, value));
            }
        }
    }
    for (const LatCtxLevel& level : levels) {
        if (!level.key.starts_with("flatback.")) continue;
        const std::string_view run = level.run;
        if (!l1_boot_ticks(measurements, run)) missing.push_back(fmt::format("boot of L1 ({})", run));
        if (!l2_boot_ticks(measurements, run)) missing.push_back(fmt::format("boot.l2 ({})", run));
    }
    return missing;
}

void add_lat_ctx(nlohmann::ordered_json& report, const Measurements& measurements, LatCtxLevels levels) {
    for (const LatCtxLevel& level : levels) {
        // A level's key is one name, or two with a point between.
        const std::size_t point = level.key.find('.');
        const std::string first{level.key.substr(0, point)};
        for (const std::string_view column : lat_ctx_columns) {
            for (const std::string_view value : values_of(level)) {
                const auto number = lat_ctx_value(measurements, level, column, value);
                if (!number) continue;
                auto& place = point == std::string_view::npos
                                  ? report["lat_ctx"][first]
                                  : report["lat_ctx"][first][std::string{level.key.substr(point + 1)}];
                // Ticks are whole numbers, and stay so.
                auto& figures = place[std::string{column}];
                if (!level.tags_told_apart && value.starts_with(any_tag_flushes)) {
                    figures["l2_tag_flushes"] = nullptr;
                    figures["l1_tag_flushes"] = nullptr;
                    figures[std::string{any_tag_flushes}] = nullptr;
                }
                figures[std::string{value}] = nlohmann::ordered_json::parse(
                    *measurements.of_mode(level.run).number(key_of(level, column, value)));
            }
        }
    }
    if (const auto ticks = l1_boot_ticks(measurements, modes.front()))
        report["boot"]["flatback"]["l1"] = static_cast<std::uint64_t>(*ticks);
    if (const auto ticks = l2_boot_ticks(measurements, modes.front()))
        report["boot"]["flatback"]["l2"] = static_cast<std::uint64_t>(*ticks);
    if (const auto ticks = l2_boot_ticks(measurements, with_qemu_name))
        report["boot"]["flatback"]["l2_qemu"] = static_cast<std::uint64_t>(*ticks);
}

std::string lat_ctx_table(const Measurements& measurements, LatCtxLevels levels) {
    std::string text =
        "\nLinux as L2: lat_ctx, ticks per context switch; a ring of P processes that sum K bytes each\n";
    text += block(measurements, levels, "raw: pipe, sum and switch", "ticks");
    text += block(measurements, levels, "the switch alone", "switch_ticks");
    for (const std::string_view counter : lat_ctx_counters)
        text += block(measurements, levels, counter_title(counter), counter);
    if (!std::ranges::all_of(levels, &LatCtxLevel::tags_told_apart)) {
        for (const std::string_view counter : {any_tag_flushes, least_tag_flushes})
            text += block(measurements, levels, counter_title(counter), counter);
    }
    return text;
}

}  // namespace flatback::tools
