#include "tools/report/report_page.hpp"

#include <algorithm>
#include <utility>

namespace flatback::tools {
namespace {

constexpr std::string_view gap = "%DATA%";

CheckedJson or_null(const std::optional<CheckedJson>& part) {
    return part ? *part : CheckedJson(nullptr);
}

}  // namespace

void shorten_trace(CheckedJson& trace, std::size_t most_events) {
    auto& events = trace.at("events").get_ref<CheckedJson::array_t&>();
    std::ranges::stable_sort(events, {},
                             [](const CheckedJson& event) { return event.at("tick").get<double>(); });
    const std::size_t left_out = events.size() > most_events ? events.size() - most_events : 0;
    events.erase(events.begin(), events.begin() + static_cast<std::ptrdiff_t>(left_out));
    trace["left_out"] = left_out;
}

std::string data_for_html(const ReportData& data) {
    const CheckedJson all = {{"sources", data.sources},
                             {"bench", or_null(data.bench)},
                             {"trace", or_null(data.trace)},
                             {"machine", or_null(data.machine)},
                             {"price", or_null(data.price)},
                             {"self_test", or_null(data.self_test)},
                             {"watch", or_null(data.watch)},
                             {"conform", or_null(data.conform)},
                             {"price_missing", data.price_missing}};
    const std::string json = all.dump(-1, ' ', /*ensure_ascii=*/true);
    std::string text;
    text.reserve(json.size());
    for (const char each : json) {
        // In JSON these stand in strings only, where they may be written as escapes.
        switch (each) {
            case '<':
                text += "\\u003c";
                break;
            case '>':
                text += "\\u003e";
                break;
            case '&':
                text += "\\u0026";
                break;
            default:
                text += each;
        }
    }
    return text;
}

Result<std::string> fill_page(std::string_view page_template, const ReportData& data) {
    const std::size_t place = page_template.find(gap);
    if (place == std::string_view::npos ||
        page_template.find(gap, place + gap.size()) != std::string_view::npos) {
        return fail(ExitStatus::incomplete,
                    "the report's page was not built right; build the target report_page");
    }
    std::string page{page_template.substr(0, place)};
    page += data_for_html(data);
    page += page_template.substr(place + gap.size());
    return page;
}

}  // namespace flatback::tools
