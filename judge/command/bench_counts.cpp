#include "judge/command/bench_counts.hpp"

#include <cmath>
#include <nlohmann/json.hpp>

namespace flatback::machine {

namespace {

using Json = nlohmann::ordered_json;

/// Thrown within this file only.
struct BadCounts {
    std::string why;
};

std::optional<double> count_at(const Json& figures, const char* key, const std::string& place) {
    const auto found = figures.find(key);
    if (found == figures.end() || found->is_null()) return std::nullopt;
    const double value = found->is_number() ? found->get<double>() : -1;
    if (!std::isfinite(value) || value < 0) {
        throw BadCounts{place + "." + key + " is not a number of at least 0"};
    }
    return value;
}

const Json& object(const Json& json, const std::string& place) {
    if (!json.is_object()) throw BadCounts{place + " is not an object"};
    return json;
}

/// KVM's one counter leaves out the flushes that it makes for an INVVPID of L1's: it has them all only where
/// L1 executes none. Whatever number stands there otherwise is not their number.
bool has_all_flushes(const std::string& name) {
    return !name.starts_with("kvm.") || name.find("novpid") != std::string::npos;
}

CountedSeries series_of(const Json& json, const std::string& name) {
    CountedSeries series{name, {}};
    for (const price::Column& column : price::columns) {
        const auto found = json.find(std::string(name_of(column)));
        if (found == json.end() || found->is_null()) continue;
        const std::string place = "lat_ctx." + name + "." + std::string(name_of(column));
        const Json& figures = object(*found, place);
        price::Counts counts = {
            count_at(figures, "l0_exits", place), count_at(figures, "l1_tag_flushes", place),
            count_at(figures, "l2_tag_flushes", place), count_at(figures, "tlb_flushes", place)};
        if (!has_all_flushes(name)) counts.any_tag_flushes.reset();
        if (counts.l0_exits || counts.l1_tag_flushes || counts.l2_tag_flushes || counts.any_tag_flushes) {
            series.columns.push_back({column, counts});
        }
    }
    return series;
}

}  // namespace

Result<std::vector<CountedSeries>, std::string> read_bench_counts(std::string_view text) {
    const Json json = Json::parse(text, nullptr, false);
    if (json.is_discarded()) return Refused(std::string("is not JSON"));
    std::vector<CountedSeries> all;
    try {
        const auto lat_ctx = object(json, "the file").find("lat_ctx");
        if (lat_ctx == json.end()) throw BadCounts{"lat_ctx is missing"};
        const auto keep = [&all](const Json& columns, const std::string& name) {
            CountedSeries series = series_of(columns, name);
            if (!series.columns.empty()) all.push_back(std::move(series));
        };
        for (const auto& [who, content] : object(*lat_ctx, "lat_ctx").items()) {
            if (content.is_null()) continue;
            const std::string place = "lat_ctx." + who;
            keep(object(content, place), who);
            // An L0 has its columns one level deeper, by its mode.
            if (who != "flatback" && who != "kvm") continue;
            for (const auto& [mode, columns] : content.items()) {
                if (columns.is_null()) continue;
                std::string name = who;
                name += "." + mode;
                keep(object(columns, "lat_ctx." + name), name);
            }
        }
    } catch (const BadCounts& bad) {
        return Refused(bad.why);
    }
    if (all.empty()) return Refused(std::string("no exits and no flushes are counted in it"));
    return all;
}

}  // namespace flatback::machine
