#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tools/command/report_command.hpp"
#include "tools/ground/paths.hpp"
#include "tools/report/json_schema.hpp"
#include "tools/report/report_page.hpp"

namespace flatback::tools::report_test {
namespace {

std::filesystem::path schema(const std::string& kind) {
    return source_directory() / "tools" / "report" / "schemas" / (kind + ".schema.json");
}

// The error that a file with this text gets; empty where it is accepted.
std::string error_of(const std::string& kind, std::string_view text) {
    const auto json = parse_checked_json(text, "FILE", schema(kind));
    if (json) return {};
    EXPECT_EQ(json.error().status, ExitStatus::input_file);
    EXPECT_EQ(json.error().message.find('\n'), std::string::npos) << json.error().message;
    return json.error().message;
}

TEST(ReportFiles, APartThatIsMissingOrNullIsNoError) {
    for (const char* text :
         {R"({"lat_ctx": null, "exits": null})", R"({"lat_ctx": {"flatback": {"mapped": null}}})",
          R"({"lat_ctx": {"bare": {"2p/0K": {"ticks": 1, "l0_exits": null}}}})",
          R"({"boot": {"flatback": {"l1": 5, "l2": {"deeper": 6}}}, "something new": ["?"]})"}) {
        EXPECT_EQ(error_of("bench", text), "") << text;
    }
}

TEST(ReportFiles, AWrongValueIsNamedWithItsPlace) {
    const auto has = [](const std::string& message, const char* part) {
        EXPECT_NE(message.find(part), std::string::npos) << message;
    };
    has(error_of("bench", R"({"lat_ctx": {"flatback": {"mapped": {"2p/0K": {"ticks": -1}}}}})"),
        "FILE: lat_ctx.flatback.mapped.2p/0K.ticks: ");
    has(error_of("bench", R"({"lat_ctx": {"bare": {"2p/0K": {"ticks": "many"}}}})"),
        "lat_ctx.bare.2p/0K.ticks: ");
    has(error_of("bench", R"({"primitives": {"kvm": {"l1_cpuid": [1]}}})"), "primitives.kvm.l1_cpuid: ");
    has(error_of("bench", "[]"), "FILE: the whole file: ");
    has(error_of("trace", "{}"), "events");
    has(error_of("trace", R"({"events": [{"tick": 1, "kind": "exit"}, {"kind": "exit"}]})"), "events.1");
    has(error_of("trace", R"({"events": [{"tick": 1, "kind": "flush", "flush": {"why": "x"}}]})"),
        "events.0.flush");
    has(error_of("price", R"({"processor": "p", "costs": {}})"), "lat_ctx");
    has(error_of("watch", R"({"modes": {"off": {"stale": 0, "misses_per_l2_entry": {"l1": -1}}}})"),
        "modes.off.misses_per_l2_entry.l1");
    has(error_of("conform", R"({"under": "kvm", "results": [{"name": "a", "outcome": "perhaps"}]})"),
        "results.0.outcome");
}

TEST(ReportFiles, AFileOfAnotherKindIsRefused) {
    constexpr std::string_view trace = R"({"events": [{"tick": 1, "kind": "exit"}]})";
    constexpr std::string_view price = R"({"processor": "p", "costs": {}, "lat_ctx": {}})";
    constexpr std::string_view machine = R"({"columns": {}, "l2s": {}})";
    constexpr std::string_view bench = R"({"lat_ctx": {}, "primitives": {}})";
    constexpr std::string_view watch =
        R"({"guest": "linux", "modes": {"off": {"stale": 0, "misses_per_l2_entry": {"l0": null}}}})";
    constexpr std::string_view conform =
        R"({"under": "kvm", "results": [{"name": "a", "outcome": "passed"}], "costs": {"vmread": 3}})";
    const std::pair<const char*, std::string_view> own[]{{"bench", bench}, {"trace", trace},
                                                         {"price", price}, {"machine", machine},
                                                         {"watch", watch}, {"conform", conform}};
    for (const auto& [kind, ignored] : own) {
        for (const auto& [other, text] : own) {
            EXPECT_EQ(error_of(kind, text).empty(), std::string_view{kind} == other) << kind << " " << other;
        }
        EXPECT_NE(error_of(kind, "{}"), "") << kind;
    }
}

TEST(ReportFiles, WhatIsNoJsonOrTooMuchOfItIsRefusedInOneLine) {
    EXPECT_NE(error_of("bench", "").find("FILE is not JSON"), std::string::npos);
    EXPECT_NE(error_of("bench", "{\"lat_ctx\":\n\n oops").find("line 3"), std::string::npos);
    EXPECT_NE(error_of("bench", "{\"a\": \"\xff\"}").find("not JSON"), std::string::npos);
    EXPECT_NE(error_of("bench", "{\"a\": 1e999}").find("not JSON"), std::string::npos);
    const std::string deep = "{\"a\": " + std::string(100'000, '[') + std::string(100'000, ']') + "}";
    EXPECT_NE(error_of("bench", deep).find("nested more than"), std::string::npos);
    const std::string text(300, 'x');
    EXPECT_NE(error_of("trace", R"({"events": [{"tick": 1, "kind": "exit", "reason": ")" + text + "\"}]}")
                  .find("events.0.reason"),
              std::string::npos);
}

TEST(ReportPage, NothingInTheDataCanEndTheScriptThatHoldsIt) {
    ReportData data;
    data.bench = CheckedJson{{"</script><!--", "<b>&amp;\u2028"}};
    const std::string text = data_for_html(data);
    EXPECT_EQ(text.find_first_of("<>&"), std::string::npos) << text;
    EXPECT_TRUE(std::ranges::all_of(text, [](char each) { return each >= ' ' && each <= '~'; }));
    EXPECT_EQ(CheckedJson::parse(text).at("bench"), *data.bench);
}

TEST(ReportPage, TheDataGoIntoTheOneGap) {
    ReportData data;
    data.price_missing = "%DATA%";
    const auto page = fill_page("a%DATA%b", data);
    ASSERT_TRUE(page.has_value());
    EXPECT_EQ(*page, "a" + data_for_html(data) + "b");
    EXPECT_FALSE(fill_page("ab", data).has_value());
    EXPECT_FALSE(fill_page("%DATA%%DATA%", data).has_value());
}

TEST(ReportPage, ALongTraceKeepsItsLastEventsInOrder) {
    CheckedJson trace = CheckedJson::parse(R"({"events": [{"tick": 30}, {"tick": 10}, {"tick": 20}]})");
    shorten_trace(trace, 2);
    EXPECT_EQ(trace, CheckedJson::parse(R"({"events": [{"tick": 20}, {"tick": 30}], "left_out": 1})"));
    shorten_trace(trace, 2);
    EXPECT_EQ(trace.at("left_out"), 0);
}

TEST(ReportCommand, ABadFileLeavesTheOutputAsItWas) {
    const std::filesystem::path folder{testing::TempDir()};
    const auto bad = folder / "bad-bench.json";
    const auto output = folder / "kept.html";
    std::ofstream(bad) << R"({"lat_ctx": 7})";
    std::ofstream(output) << "as it was";
    ReportOptions options;
    options.bench = bad;
    options.output = output;
    const auto status = report_command(options);
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().status, ExitStatus::input_file);
    EXPECT_NE(status.error().message.find("bad-bench.json: lat_ctx: "), std::string::npos)
        << status.error().message;
    EXPECT_NE(status.error().message.find("flatback bench --json"), std::string::npos)
        << status.error().message;
    std::string content;
    std::getline(std::ifstream(output), content);
    EXPECT_EQ(content, "as it was");
    options.output = folder / "no" / "such" / "folder.html";
    EXPECT_EQ(report_command(options).error().status, ExitStatus::output_file);
}

}  // namespace
}  // namespace flatback::tools::report_test
