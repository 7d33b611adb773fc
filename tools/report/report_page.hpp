// The page of `flatback report`: the built template with the data of the runs in its gap.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "tools/ground/error.hpp"
#include "tools/report/json_schema.hpp"

namespace flatback::tools {

// What the page is made from. Where a part is missing, the page says that it was not measured.
struct ReportData {
    CheckedJson sources = CheckedJson::object();  // by part, the name of the file that it came from
    std::optional<CheckedJson> bench;
    std::optional<CheckedJson> trace;
    std::optional<CheckedJson> machine;
    std::optional<CheckedJson> price;
    std::optional<CheckedJson> self_test;
    std::optional<CheckedJson> watch;
    std::optional<CheckedJson> conform;  // an array, a run each
    std::string price_missing;           // why there is none: a sentence for the reader
};

// Keeps the last events of a trace, as many as a page can hold, in the order of their ticks, and notes how
// many were left out.
void shorten_trace(CheckedJson& trace, std::size_t most_events);

// The data as text that can stand inside a script element: nothing in it can end that element.
[[nodiscard]] std::string data_for_html(const ReportData& data);

// Error: incomplete where the template has no gap, or two.
[[nodiscard]] Result<std::string> fill_page(std::string_view page_template, const ReportData& data);

}  // namespace flatback::tools
