#include "tools/check/conformance_output.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <pugixml.hpp>
#include <set>
#include <sstream>

#include "tools/ground/json.hpp"
#include "tools/ground/printable.hpp"

namespace flatback::tools {
namespace {

constexpr std::string_view no_section = "no section of the SDM";

std::string_view title_of(std::string_view section) {
    return section.empty() ? no_section : section;
}

// The results of one section, which stand together.
struct SectionResults {
    std::string_view section;
    std::span<const ConformanceResult> results;

    [[nodiscard]] std::size_t count(ConformanceOutcome outcome) const {
        return static_cast<std::size_t>(std::ranges::count(results, outcome, &ConformanceResult::outcome));
    }
};

std::vector<SectionResults> by_section(const Conformance& conformance) {
    std::vector<SectionResults> sections;
    const std::span<const ConformanceResult> all{conformance.results};
    for (std::size_t first = 0; first < all.size();) {
        std::size_t end = first + 1;
        while (end < all.size() && all[end].section == all[first].section) ++end;
        sections.push_back({all[first].section, all.subspan(first, end - first)});
        first = end;
    }
    return sections;
}

std::string summary(const Conformance& conformance) {
    return fmt::format("{} passed, {} failed, {} not offered, {} the emulator's fault",
                       conformance.count(ConformanceOutcome::passed),
                       conformance.count(ConformanceOutcome::failed),
                       conformance.count(ConformanceOutcome::not_offered),
                       conformance.count(ConformanceOutcome::platform_fault));
}

std::string failures(const Conformance& conformance) {
    std::string text;
    for (const ConformanceResult& result : conformance.results) {
        if (result.outcome != ConformanceOutcome::failed) continue;
        text += fmt::format("  {}\n", result.name);
        if (!result.section.empty() || !result.rule.empty())
            text += fmt::format("      {}: {}\n", title_of(result.section), result.rule);
        if (result.ledger_row) text += fmt::format("      row {} of docs/ledger.md\n", *result.ledger_row);
        if (!result.expected.empty()) text += fmt::format("      expected  {}\n", result.expected);
        text += fmt::format("      seen      {}\n", result.seen);
    }
    return text.empty() ? text : "\nFailed:\n" + text;
}

// Which rows were tried, and where one of their checks failed.
std::string rows(const Conformance& conformance) {
    std::set<unsigned> tried;
    std::set<unsigned> broken;
    for (const ConformanceResult& result : conformance.results) {
        if (!result.ledger_row) continue;
        if (result.outcome == ConformanceOutcome::failed) broken.insert(*result.ledger_row);
        if (result.outcome == ConformanceOutcome::passed) tried.insert(*result.ledger_row);
    }
    for (const unsigned row : broken) tried.erase(row);
    std::string text;
    if (!tried.empty())
        text += fmt::format("\nRows of docs/ledger.md that held: {}\n", fmt::join(tried, " "));
    if (!broken.empty()) text += fmt::format("Rows that did not: {}\n", fmt::join(broken, " "));
    return text;
}

std::string costs(const Conformance& conformance) {
    if (conformance.costs.empty()) return {};
    std::string text = fmt::format("\n{:<48}{:>12}\n", "Cost of", conformance.unit);
    for (const auto& [operation, number] : conformance.costs)
        text += fmt::format("{:<48}{:>12}\n", operation, number);
    return text;
}

// Not in braces, which would make a list of it.
nlohmann::ordered_json text_or_null(const std::string& text) {
    nlohmann::ordered_json value;
    if (!text.empty()) value = text;
    return value;
}

}  // namespace

std::string conformance_text(const Conformance& conformance) {
    std::string text =
        fmt::format("Nested VT-x under {}{}\n\n", conformance.under,
                    conformance.beneath.empty() ? "" : fmt::format(" (CPUID says: {})", conformance.beneath));
    text +=
        fmt::format("{:<34}{:>8}{:>8}{:>13}{:>12}\n", "SDM", "passed", "failed", "not offered", "emulator's");
    for (const SectionResults& each : by_section(conformance)) {
        text += fmt::format("{:<34}{:>8}{:>8}{:>13}{:>12}\n", title_of(each.section),
                            each.count(ConformanceOutcome::passed), each.count(ConformanceOutcome::failed),
                            each.count(ConformanceOutcome::not_offered),
                            each.count(ConformanceOutcome::platform_fault));
    }
    text += failures(conformance) + rows(conformance) + costs(conformance);
    if (!conformance.incomplete.empty())
        text += fmt::format("\nThe run did not come to its end: {}\n", conformance.incomplete);
    return printable_lines(text + fmt::format("\n{}\n", summary(conformance)));
}

std::string conformance_json(const Conformance& conformance) {
    Json report;
    report["under"] = conformance.under;
    report["beneath"] = text_or_null(conformance.beneath);
    report["unit"] = conformance.unit;
    report["results"] = Json::array();
    for (const ConformanceResult& result : conformance.results) {
        Json row;
        if (result.ledger_row) row = *result.ledger_row;
        report["results"].push_back({{"name", result.name},
                                     {"section", text_or_null(result.section)},
                                     {"ledger_row", row},
                                     {"rule", text_or_null(result.rule)},
                                     {"outcome", name(result.outcome)},
                                     {"expected", text_or_null(result.expected)},
                                     {"seen", text_or_null(result.seen)}});
    }
    report["costs"] = Json::object();
    for (const auto& [operation, number] : conformance.costs)
        report["costs"][operation] = Json::parse(number, nullptr, false);
    report["incomplete"] = text_or_null(conformance.incomplete);
    // A guest may print anything: what is not UTF-8 is replaced.
    return report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string conformance_junit(const Conformance& conformance) {
    pugi::xml_document document;
    pugi::xml_node declaration = document.append_child(pugi::node_declaration);
    declaration.append_attribute("version") = "1.0";
    declaration.append_attribute("encoding") = "UTF-8";
    pugi::xml_node suites = document.append_child("testsuites");
    suites.append_attribute("name") = fmt::format("nested VT-x under {}", conformance.under).c_str();
    // The run is a test of its own where it did not come to its end.
    suites.append_attribute("tests") = conformance.results.size() + (conformance.incomplete.empty() ? 0 : 1);
    suites.append_attribute("failures") = conformance.count(ConformanceOutcome::failed);
    suites.append_attribute("errors") = conformance.incomplete.empty() ? 0 : 1;
    suites.append_attribute("skipped") = conformance.count(ConformanceOutcome::not_offered) +
                                         conformance.count(ConformanceOutcome::platform_fault);
    for (const SectionResults& each : by_section(conformance)) {
        pugi::xml_node suite = suites.append_child("testsuite");
        const std::string title = printable(title_of(each.section));
        suite.append_attribute("name") = title.c_str();
        suite.append_attribute("tests") = each.results.size();
        suite.append_attribute("failures") = each.count(ConformanceOutcome::failed);
        suite.append_attribute("errors") = 0;
        suite.append_attribute("skipped") =
            each.count(ConformanceOutcome::not_offered) + each.count(ConformanceOutcome::platform_fault);
        for (const ConformanceResult& result : each.results) {
            pugi::xml_node test = suite.append_child("testcase");
            test.append_attribute("classname") = title.c_str();
            test.append_attribute("name") = printable(result.name).c_str();
            const auto add = [&](const char* kind, const std::string& message) {
                test.append_child(kind).append_attribute("message") = printable(message).c_str();
            };
            if (result.outcome == ConformanceOutcome::failed)
                add("failure",
                    fmt::format("{}: expected {}, seen {}", result.rule, result.expected, result.seen));
            if (result.outcome == ConformanceOutcome::not_offered) add("skipped", "not offered");
            if (result.outcome == ConformanceOutcome::platform_fault)
                add("skipped", fmt::format("the emulator's fault: {}", result.seen));
        }
    }
    // A CI system that reads this alone must see that it is not the whole.
    if (!conformance.incomplete.empty()) {
        pugi::xml_node suite = suites.append_child("testsuite");
        suite.append_attribute("name") = "the run";
        suite.append_attribute("tests") = 1;
        suite.append_attribute("failures") = 0;
        suite.append_attribute("errors") = 1;
        suite.append_attribute("skipped") = 0;
        pugi::xml_node test = suite.append_child("testcase");
        test.append_attribute("name") = "the run comes to its end";
        test.append_child("error").append_attribute("message") = printable(conformance.incomplete).c_str();
    }
    std::ostringstream text;
    document.save(text, "  ");
    return text.str();
}

}  // namespace flatback::tools
