// `flatback machine lat_ctx`: the price list of the ways in which L0 may give out tags.
#include <algorithm>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "judge/command/commands.hpp"
#include "judge/command/json_file.hpp"
#include "machine/price/lat_ctx.hpp"

namespace flatback::machine {

namespace {

using price::Policy;
using price::Price;

nlohmann::json to_json(const Price& it) {
    return {{"misses", it.misses}, {"walk_references", it.walk_references}, {"cycles", it.cycles}};
}

void print_row(std::ostream& out, std::string_view name, const std::vector<Price>& prices) {
    out << std::left << std::setw(8) << name << std::right;
    for (const Price& it : prices) {
        out << std::fixed << std::setprecision(1) << std::setw(9) << it.misses << std::setw(9)
            << it.walk_references << std::setw(9) << it.cycles;
    }
    out << "\n";
}

}  // namespace

CommandStatus run(const LatCtxOptions& options, CommandSetting& setting) {
    const TlbGeometry* geometry = find_geometry(options.geometry);
    std::vector<Policy> policies;
    for (const Policy policy : price::all_policies) {
        const bool wanted = options.policies.empty() ||
                            std::ranges::find(options.policies, name_of(policy)) != options.policies.end();
        if (wanted) policies.push_back(policy);
    }
    price::Assumptions assumptions = options.assumptions;
    if (options.ept_page == "2m") assumptions.ept_page = PageSize::size_2m;

    nlohmann::json json;
    std::ostream& out = setting.text(options.json_file);
    out << "Model of lat_ctx in an L2 on " << geometry->name
        << ": TLB misses, walk references, modelled cycles, per "
        << "context switch.\nKernel of the L2: " << assumptions.kernel_code << " pages of code, "
        << assumptions.kernel_data << " of shared data, " << assumptions.kernel_per_process
        << " a process; L1 touches " << assumptions.l1_code + assumptions.l1_data << " pages an exit, L0 "
        << assumptions.l0_pages << " large ones a visit;\n"
        << assumptions.exits_per_switch << " exits to L1 a switch, EPT pages of " << options.ept_page
        << ".\n\n";
    const auto heading = [&](std::string_view first) {
        out << std::left << std::setw(8) << first << std::right;
        for (const Policy policy : policies) out << std::setw(27) << name_of(policy);
        out << "\n" << std::setw(8) << " ";
        for (std::size_t count = 0; count < policies.size(); ++count) {
            out << std::setw(9) << "misses" << std::setw(9) << "refs" << std::setw(9) << "cycles";
        }
        out << "\n";
    };
    heading("column");
    for (std::size_t index = 0; index < price::columns.size(); ++index) {
        const price::Column& column = price::columns[index];
        std::vector<Price> prices;
        for (const Policy policy : policies) {
            prices.push_back(price::context_switch(*geometry, policy, column, assumptions));
            json["columns"][std::string(name_of(column))][std::string(name_of(policy))] =
                to_json(prices.back());
        }
        print_row(out, name_of(column), prices);
    }
    out << "\nSeveral L2s take turns on one virtual CPU of L1 (8p/16K, " << assumptions.switches_per_turn
        << " switches a turn, " << assumptions.slots << " slots):\n";
    heading("L2s");
    for (const unsigned l2s : price::l2_counts) {
        std::vector<Price> prices;
        for (const Policy policy : policies) {
            prices.push_back(price::taking_turns(*geometry, policy, l2s, assumptions));
            json["l2s"][std::to_string(l2s)][std::string(name_of(policy))] = to_json(prices.back());
        }
        print_row(out, std::to_string(l2s), prices);
    }
    out << "\nThe patch of 2015 said of itself, in microseconds (not modelled: time):\n"
        << std::left << std::setw(14) << " ";
    for (const price::Column& column : price::columns) out << std::right << std::setw(9) << name_of(column);
    out << "\n" << std::left << std::setw(14) << "nested VPID" << std::right << std::setprecision(2);
    for (const double value : price::seed_with_nested_vpid) out << std::setw(9) << value;
    out << "\n" << std::left << std::setw(14) << "vanilla" << std::right;
    for (const double value : price::seed_without) out << std::setw(9) << value;
    out << "\n";
    if (options.json_file.empty()) return CommandStatus::success;
    return write_json_file(options.json_file, json, setting);
}

}  // namespace flatback::machine
