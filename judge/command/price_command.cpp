// `flatback machine price`: what an emulator that charges for instructions only did not charge for a run.
#include <fstream>
#include <iomanip>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <ostream>
#include <sstream>
#include <string>
#include <vector>

#include "judge/command/bench_counts.hpp"
#include "judge/command/commands.hpp"
#include "judge/command/json_file.hpp"
#include "machine/price/stack_price.hpp"

namespace flatback::machine {

namespace {

using Json = nlohmann::ordered_json;
using price::Range;

Json to_json(const Range& range) {
    return {{"low", range.low}, {"high", range.high}};
}

Json to_json(const std::optional<Range>& range) {
    return range ? to_json(rounded(*range)) : Json(nullptr);
}

Json to_json(const price::Refill& refill) {
    return {{"misses", refill.misses}, {"walk_references", refill.walk_references}};
}

struct NamedCost {
    const char* key;
    const char* text;
    const price::Cost& cost;
};

std::vector<NamedCost> named(const price::ProcessorCosts& costs) {
    return {{"world_switch", "a VM exit and the VM entry that ends it", costs.world_switch},
            {"flush_instruction", "an INVVPID", costs.flush_instruction},
            {"page_walk_reference", "a reference of a page walk", costs.page_walk_reference}};
}

std::vector<std::string> not_counted(const price::Counts& counts) {
    std::vector<std::string> names;
    if (!counts.l0_exits) names.emplace_back("l0_exits");
    if (!counts.l1_tag_flushes && !counts.any_tag_flushes) names.emplace_back("l1_tag_flushes");
    if (!counts.l2_tag_flushes && !counts.any_tag_flushes) names.emplace_back("l2_tag_flushes");
    return names;
}

std::string text_of(const std::optional<Range>& range) {
    if (!range) return "not counted";
    const Range shown = rounded(*range);
    std::ostringstream text;
    text << shown.low;
    if (shown.high != shown.low) text << " to " << shown.high;
    return text.str();
}

/// What one run prices: the processor, its costs, and the refills of each column, which are modelled once.
class Pricing {
public:
    explicit Pricing(const std::string& processor)
        : geometry_(*find_geometry(processor)), costs_(*price::find_costs(processor)) {}

    [[nodiscard]] const price::ProcessorCosts& costs() const { return costs_; }
    [[nodiscard]] const std::map<std::string, price::Refills>& refills() const { return refills_; }

    [[nodiscard]] price::StackPrice of(const CountedColumn& counted) {
        const auto [entry, is_new] = refills_.try_emplace(std::string(name_of(counted.column)));
        if (is_new) entry->second = price::refills_of(geometry_, counted.column, {});
        return price_of(counted.counts, entry->second, costs_);
    }

private:
    const TlbGeometry& geometry_;
    const price::ProcessorCosts& costs_;
    std::map<std::string, price::Refills> refills_;
};

void print_costs(const price::ProcessorCosts& costs, std::ostream& out) {
    out << "What the emulator does not charge for, in cycles of " << costs.name
        << ", per context switch of lat_ctx.\nCounted on the stack, priced with:\n";
    for (const NamedCost& each : named(costs)) {
        out << "  " << each.text << ": " << text_of(each.cost.cycles) << " (" << name_of(each.cost.basis)
            << ")\n    " << each.cost.source << "\n";
    }
    out << "  the misses after a flush: from the model of lat_ctx (flatback machine lat_ctx)\n";
}

void print_series(const CountedSeries& series, const std::vector<price::StackPrice>& prices,
                  std::ostream& out) {
    constexpr int width = 20;
    out << "\n" << std::left << std::setw(10) << "column";
    for (const char* heading : {"world switches", "INVVPID", "misses after", "together"}) {
        out << std::right << std::setw(width) << heading;
    }
    out << "    " << series.name << "\n";
    for (std::size_t index = 0; index < prices.size(); ++index) {
        const price::StackPrice& price = prices[index];
        out << std::left << std::setw(10) << name_of(series.columns[index].column) << std::right
            << std::setw(width) << text_of(price.world_switches) << std::setw(width)
            << text_of(price.flush_instructions) << std::setw(width) << text_of(price.refills)
            << std::setw(width) << text_of(price.total()) << "\n";
    }
}

/// Puts a series "flatback.mapped" at lat_ctx.flatback.mapped.
Json& place_of(Json& lat_ctx, const std::string& name) {
    const std::size_t dot = name.find('.');
    if (dot == std::string::npos) return lat_ctx[name];
    return lat_ctx[name.substr(0, dot)][name.substr(dot + 1)];
}

Json to_json(const CountedSeries& series, const std::vector<price::StackPrice>& prices) {
    Json json;
    for (std::size_t index = 0; index < prices.size(); ++index) {
        const CountedColumn& counted = series.columns[index];
        json[std::string(name_of(counted.column))] = {
            {"world_switches", to_json(prices[index].world_switches)},
            {"flush_instructions", to_json(prices[index].flush_instructions)},
            {"refills", to_json(prices[index].refills)},
            {"total", to_json(prices[index].total())},
            {"not_counted", not_counted(counted.counts)}};
    }
    return json;
}

Json to_json(const Pricing& pricing, Json lat_ctx) {
    Json json;
    json["processor"] = pricing.costs().name;
    json["unit"] = "cycles per context switch";
    for (const NamedCost& each : named(pricing.costs())) {
        json["costs"][each.key] = {{"text", each.text},
                                   {"low", each.cost.cycles.low},
                                   {"high", each.cost.cycles.high},
                                   {"basis", name_of(each.cost.basis)},
                                   {"source", each.cost.source}};
    }
    for (const auto& [column, refills] : pricing.refills()) {
        json["refill_of_a_flush"][column] = {{"l1_tag", to_json(refills.l1_tag)},
                                             {"l2_tag", to_json(refills.l2_tag)}};
    }
    json["lat_ctx"] = std::move(lat_ctx);
    return json;
}

}  // namespace

CommandStatus run(const PriceOptions& options, CommandSetting& setting) {
    std::ifstream file(options.counts, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    const auto refuse = [&](const std::string& why) {
        setting.error << "flatback machine: " << options.counts << ": " << why << "\n";
        return CommandStatus::usage;
    };
    if (!file) return refuse("cannot be read");
    const auto all = read_bench_counts(text);
    if (!all) return refuse(all.error() + "; flatback bench --json FILE writes what is needed");

    Pricing pricing(options.processor);
    print_costs(pricing.costs(), setting.text(options.json_file));
    Json lat_ctx;
    for (const CountedSeries& series : *all) {
        std::vector<price::StackPrice> prices;
        for (const CountedColumn& counted : series.columns) prices.push_back(pricing.of(counted));
        print_series(series, prices, setting.text(options.json_file));
        place_of(lat_ctx, series.name) = to_json(series, prices);
    }
    if (options.json_file.empty()) return CommandStatus::success;
    return write_json_file(options.json_file, to_json(pricing, std::move(lat_ctx)), setting);
}

}  // namespace flatback::machine
