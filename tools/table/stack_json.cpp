#include "tools/table/stack_json.hpp"

#include <fmt/format.h>

#include "tools/ground/json.hpp"
#include "tools/measure/lat_ctx.hpp"
#include "tools/table/target_json.hpp"

namespace flatback::tools {
namespace {

// Puts the run's number for `key` at the dotted place.
void put_number(Json& object, std::string_view place, const RunValues& run, const std::string& key) {
    const auto number = run.number(key);
    if (!number) return;
    const std::size_t dot = place.find('.');
    if (dot == std::string_view::npos) {
        object[std::string{place}] = Json::parse(*number);
        return;
    }
    put_number(object[std::string{place.substr(0, dot)}], place.substr(dot + 1), run, key);
}

}  // namespace

std::string stack_json(const Measurements& measurements) {
    Json report = Json::object();
    const RunValues& first = measurements.of_mode(modes.front());
    if (const auto flags = first.text("l1.cpu_flags")) report["l1"]["cpu_flags"] = words_of(*flags);
    const auto parameters = first.texts_under("l1.kvm_intel.");
    if (!parameters.empty()) report["l1"]["kvm_intel"] = parameters;
    for (const std::string_view mode : modes) {
        for (const std::string_view value : mode_values) {
            put_number(report["modes"][std::string{mode}], value, measurements.of_mode(mode),
                       fmt::format("modes.{}.{}", mode, value));
        }
    }
    for (const std::string_view value : bare_values) {
        put_number(report["bare_l1"], value, measurements.bare, fmt::format("bare_l1.{}", value));
    }
    add_lat_ctx(report, measurements);
    for (const std::string_view value : trace_values) {
        put_number(report, value, measurements.bare_trace, fmt::format("bare_l1.{}", value));
    }
    report["targets"] = targets_json(targets(measurements));
    return report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace flatback::tools
