// The results of the bare L1 as a report: what is read of a guest that may print anything, and what is
// written.
#include "tools/check/conformance.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <pugixml.hpp>

#include "tools/check/conformance_output.hpp"

namespace flatback::tools::conformance_test {
namespace {

Transcript transcript_of(std::string_view lines) {
    Transcript transcript;
    transcript.append(lines);
    transcript.finish();
    return transcript;
}

constexpr std::string_view sample =
    "FLATBACK text bare_l1.under flatback\n"
    "FLATBACK check b-passes pass\n"
    "FLATBACK text result.b-passes passed|3C 27.2.1.1|12|a control holds||\n"
    "FLATBACK check a-fails fail VMLAUNCH: VMsucceed, expected VMfailValid 7\n"
    "FLATBACK text result.a-fails failed|3C 9.4|0|a <rule> & more|VMfailValid 7|VMLAUNCH: VMsucceed\n"
    "FLATBACK text result.VPIDs not_offered|3C 29.1|0|VPIDs||\n"
    "FLATBACK text result.known platform_fault|3C 29.1|0|VPIDs||it does not\n"
    "FLATBACK check part-x-comes-to-its-end fail it hung\n"
    "FLATBACK value bare_l1.vmread 3\n"
    "FLATBACK value bare_l1.per_reflected.l0_exits 100\n"
    "FLATBACK value bare_l1.trace.per_event_l1_cpuid_x100 3767\n"
    "FLATBACK end\n";

TEST(Conformance, AResultHasSixFields) {
    const auto result = conformance_result("result.a-b", "failed|3C 29.4|7|rule|want|got | more");
    ASSERT_TRUE(result);
    EXPECT_EQ(result->name, "a-b");
    EXPECT_EQ(result->outcome, ConformanceOutcome::failed);
    EXPECT_EQ(result->section, "3C 29.4");
    EXPECT_EQ(result->ledger_row, 7U);
    EXPECT_EQ(result->rule, "rule");
    EXPECT_EQ(result->expected, "want");
    EXPECT_EQ(result->seen, "got | more");
}

TEST(Conformance, WhatIsNoResultIsNone) {
    EXPECT_FALSE(conformance_result("result.", "passed|s|0|r||"));
    EXPECT_FALSE(conformance_result("other.a", "passed|s|0|r||"));
    EXPECT_FALSE(conformance_result("result.a", "passed|s|0|r|"));
    EXPECT_FALSE(conformance_result("result.a", "perhaps|s|0|r||"));
    EXPECT_FALSE(conformance_result("result.a", "passed|s|-1|r||"));
    EXPECT_FALSE(conformance_result("result.a", "passed|s|7x|r||"));
    EXPECT_FALSE(conformance_result("result.a", "passed|s|99999999999|r||"));
    EXPECT_FALSE(conformance_result("result.a", ""));
}

TEST(Conformance, ResultsStandInTheOrderOfTheSdmsSections) {
    const Conformance found = conformance_of("flatback", transcript_of(sample));
    std::vector<std::string> names;
    for (const ConformanceResult& result : found.results) names.push_back(result.name);
    EXPECT_EQ(names,
              (std::vector<std::string>{"part-x-comes-to-its-end", "a-fails", "b-passes", "VPIDs", "known"}));
    EXPECT_TRUE(section_before("3C 9.4", "3C 27.2"));
    EXPECT_TRUE(section_before("3C 27.2", "3C 27.2.1"));
    EXPECT_FALSE(section_before("3C 27.10", "3C 27.9"));
}

TEST(Conformance, EveryFailureCountsThoughItHasNoRule) {
    const Conformance found = conformance_of("flatback", transcript_of(sample));
    EXPECT_EQ(found.count(ConformanceOutcome::passed), 1U);
    EXPECT_EQ(found.count(ConformanceOutcome::failed), 2U);
    EXPECT_EQ(found.count(ConformanceOutcome::not_offered), 1U);
    EXPECT_EQ(found.count(ConformanceOutcome::platform_fault), 1U);
    EXPECT_EQ(found.beneath, "flatback");
    EXPECT_EQ(found.costs, (std::map<std::string, std::string>{{"vmread", "3"}}));
}

TEST(Conformance, JsonHasEachResultWithItsRule) {
    const auto json =
        nlohmann::json::parse(conformance_json(conformance_of("direct", transcript_of(sample))));
    EXPECT_EQ(json["under"], "direct");
    ASSERT_EQ(json["results"].size(), 5U);
    const auto& passed = json["results"][2];
    EXPECT_EQ(passed["name"], "b-passes");
    EXPECT_EQ(passed["outcome"], "passed");
    EXPECT_EQ(passed["section"], "3C 27.2.1.1");
    EXPECT_EQ(passed["ledger_row"], 12);
    EXPECT_TRUE(passed["expected"].is_null());
    const auto& failed = json["results"][1];
    EXPECT_EQ(failed["expected"], "VMfailValid 7");
    EXPECT_EQ(failed["seen"], "VMLAUNCH: VMsucceed");
    EXPECT_TRUE(failed["ledger_row"].is_null());
    EXPECT_EQ(json["costs"]["vmread"], 3);
    EXPECT_EQ(json["unit"], "ticks");
}

TEST(Conformance, JunitCountsFailuresAndSaysWhatWasLeftOut) {
    Conformance found = conformance_of("kvm", transcript_of(sample));
    found.incomplete = "the time was up";
    pugi::xml_document document;
    ASSERT_TRUE(document.load_string(conformance_junit(found).c_str()));
    const pugi::xml_node suites = document.child("testsuites");
    EXPECT_EQ(suites.attribute("tests").as_int(), 6);
    EXPECT_EQ(suites.attribute("failures").as_int(), 2);
    EXPECT_EQ(suites.attribute("errors").as_int(), 1);
    EXPECT_EQ(suites.attribute("skipped").as_int(), 2);
    // The sums are those of the suites.
    for (const char* name : {"tests", "failures", "errors", "skipped"}) {
        int sum = 0;
        for (const pugi::xml_node each : suites.children("testsuite")) sum += each.attribute(name).as_int();
        EXPECT_EQ(sum, suites.attribute(name).as_int()) << name;
    }
    const pugi::xml_node failed =
        suites.find_child_by_attribute("testsuite", "name", "3C 9.4").child("testcase");
    EXPECT_STREQ(failed.attribute("name").value(), "a-fails");
    EXPECT_STREQ(failed.child("failure").attribute("message").value(),
                 "a <rule> & more: expected VMfailValid 7, seen VMLAUNCH: VMsucceed");
    const pugi::xml_node suite = suites.find_child_by_attribute("testsuite", "name", "3C 29.1");
    EXPECT_EQ(suite.attribute("skipped").as_int(), 2);
    const pugi::xml_node run = suites.find_child_by_attribute("testsuite", "name", "the run");
    EXPECT_STREQ(run.child("testcase").child("error").attribute("message").value(), "the time was up");
}

TEST(Conformance, TheTextNamesWhatFailedAndTheRows) {
    const std::string text = conformance_text(conformance_of("flatback", transcript_of(sample)));
    EXPECT_NE(text.find("a-fails"), std::string::npos);
    EXPECT_NE(text.find("expected  VMfailValid 7"), std::string::npos);
    EXPECT_NE(text.find("docs/ledger.md that held: 12"), std::string::npos);
    EXPECT_NE(text.find("1 passed, 2 failed, 1 not offered, 1 the emulator's fault"), std::string::npos);
}

}  // namespace
}  // namespace flatback::tools::conformance_test
