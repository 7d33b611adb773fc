#include "tools/bench_json.hpp"

#include <nlohmann/json.hpp>

namespace flatback::tools {
namespace {

using Json = nlohmann::ordered_json;

// The object at a dotted place ("kvm.vpid"), made where it is not there.
Json& at(Json& object, std::string_view place) {
    const std::size_t dot = place.find('.');
    Json& child = object[std::string{place.substr(0, dot)}];
    return dot == std::string_view::npos ? child : at(child, place.substr(dot + 1));
}

// Whole numbers without a fraction, as they were counted.
Json number(std::optional<double> value) {
    if (!value) return nullptr;
    const auto whole = static_cast<std::int64_t>(*value);
    if (static_cast<double>(whole) == *value) return whole;
    return *value;
}

Json column_json(const LatCtx& column, Counters counters) {
    Json json;
    json["ticks"] = number(column.ticks);
    if (counters == Counters::none) return json;
    json["l2_entries"] = number(column.l2_entries);
    json["l0_exits"] = number(column.l0_exits);
    json["l2_tag_flushes"] = number(column.l2_tag_flushes);
    json["l1_tag_flushes"] = number(column.l1_tag_flushes);
    if (counters == Counters::kvm) json["tlb_flushes"] = number(column.tlb_flushes);
    return json;
}

}  // namespace

std::string bench_json(const BenchResults& results) {
    Json report;
    for (const BenchSystem& system : bench_systems(results.with_kvm)) {
        Json& columns = at(report["lat_ctx"], system.name);
        for (const std::string_view name : lat_ctx_columns) {
            if (const LatCtx* const column = results.column(system.name, name))
                columns[std::string{name}] = column_json(*column, system.counters);
        }
    }
    for (const Primitive& primitive : results.primitives) {
        const std::string name{primitive.name};
        report["primitives"]["flatback"][name] = number(primitive.flatback);
        if (results.with_kvm) report["primitives"]["kvm"][name] = number(primitive.kvm);
    }
    for (const auto& [place, ticks] : results.boot) at(report["boot"], place) = number(ticks);
    for (const auto& [system, reasons] : results.exits) {
        Json& exits = at(report["exits"], system);
        exits = Json::object();
        for (const auto& [reason, count] : reasons)
            exits[reason] = {{"handled", count.handled}, {"reflected", count.reflected}};
    }
    return report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace flatback::tools
