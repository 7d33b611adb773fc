#include "guests/lat_ctx/report.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "guests/linux/record.hpp"

namespace flatback::guests {
namespace {

[[nodiscard]] std::string decimal(double value, int places) {
    std::array<char, 64> digits{};
    const auto end =
        std::to_chars(digits.data(), digits.data() + digits.size(), value, std::chars_format::fixed, places);
    return end.ec == std::errc{} ? std::string(digits.data(), end.ptr) : std::string("?");
}

[[nodiscard]] std::string right_aligned(const std::string& text, std::size_t width) {
    return std::string(width - std::min(width, text.size()), ' ') + text;
}

struct PerSwitch {
    std::string_view name;
    double value;
};

[[nodiscard]] std::array<PerSwitch, 4> per_switch(const CounterTotals& totals, std::uint64_t switches) {
    const auto of = [switches](std::uint64_t total) {
        return static_cast<double>(total) / static_cast<double>(switches);
    };
    return {{{"l2_entries", of(totals.l2_entries)},
             {"l0_exits", of(totals.l0_exits)},
             {"l2_tag_flushes", of(totals.l2_tag_flushes)},
             {"l1_tag_flushes", of(totals.l1_tag_flushes)}}};
}

constexpr std::size_t name_width = 8;
constexpr std::size_t cell_width = 15;

}  // namespace

std::string column_records(std::string_view key, const Column& column, const ColumnResult& result) {
    const std::string prefix = std::string(key) + "." + column_name(column) + ".";
    std::string lines;
    const auto add = [&lines, &prefix](std::string_view name, const std::string& number) {
        lines += format_record("value", prefix + std::string(name) + " " + number) + "\n";
    };
    add("ticks", decimal(result.ticks, 0));
    add("switch_ticks", decimal(result.switch_ticks(), 0));
    add("overhead_ticks", decimal(result.overhead_ticks, 0));
    if (result.across_ticks) {
        add("across_ticks", decimal(*result.across_ticks, 0));
    }
    if (result.counters) {
        for (const PerSwitch& each : per_switch(*result.counters, result.switches)) {
            add(each.name, decimal(each.value, 4));
        }
    }
    return lines;
}

std::string table_head(bool counters, bool across) {
    std::vector<std::string> titles{"raw, us", "switch, us", "raw, ticks", "switch, ticks"};
    if (across) {
        titles.emplace_back("across, ticks");
    }
    if (counters) {
        titles.insert(titles.end(), {"L2 entries", "L0 exits", "L2-tag flushes", "L1-tag flushes"});
    }
    std::string line(name_width, ' ');
    for (const std::string& title : titles) {
        line += right_aligned(title, cell_width);
    }
    return line + "\n";
}

std::string table_row(const Column& column, const ColumnResult& result, double ticks_per_microsecond) {
    std::string name = column_name(column);
    name.resize(std::max(name.size(), name_width), ' ');
    std::string line = name + right_aligned(decimal(result.ticks / ticks_per_microsecond, 2), cell_width) +
                       right_aligned(decimal(result.switch_ticks() / ticks_per_microsecond, 2), cell_width) +
                       right_aligned(decimal(result.ticks, 0), cell_width) +
                       right_aligned(decimal(result.switch_ticks(), 0), cell_width);
    if (result.across_ticks) {
        line += right_aligned(decimal(*result.across_ticks, 0), cell_width);
    }
    if (result.counters) {
        for (const PerSwitch& each : per_switch(*result.counters, result.switches)) {
            line += right_aligned(decimal(each.value, 4), cell_width);
        }
    }
    return line + "\n";
}

}  // namespace flatback::guests
