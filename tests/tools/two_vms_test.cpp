// What a run of two VMs told, from its serial output.
#include "tools/check/two_vms.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace flatback::tools::two_vms_test {
namespace {

TwoVms run_of(std::string_view text) {
    Transcript transcript;
    transcript.append(text);
    transcript.finish();
    return two_vms_of(transcript);
}

constexpr std::string_view good =
    "FLATBACK check a pass\r\n[vm2] FLATBACK check b pass\n[vm2] FLATBACK check c pass\nFLATBACK end\n"
    "[vm2] FLATBACK end\n[two-vms] switches 8\n[two-vms] switch_ticks 766\n[two-vms] flushes 4\n"
    "[two-vms] tags_reused 3\n";

TEST(TwoVmsRun, CountsTheChecksOfEach) {
    const TwoVms run = run_of(good);
    EXPECT_EQ(run.vm1.passed, 1U);
    EXPECT_EQ(run.vm2.passed, 2U);
    EXPECT_EQ(run.vm1.failed + run.vm2.failed, 0U);
    EXPECT_EQ(what_two_vms_lack(run), "");
}

TEST(TwoVmsRun, WritesWhatL0Counted) {
    const auto json = nlohmann::json::parse(two_vms_json(run_of(good)))["two_vms"];
    EXPECT_EQ(json["switch_ticks"], 766);
    EXPECT_EQ(json["tags_reused"], 3);
    EXPECT_EQ(json["flushes_per_switch"], 0.5);
    EXPECT_EQ(json["vm1"]["passed"], 1);
    EXPECT_EQ(json["vm2"]["failed"], 0);
}

TEST(TwoVmsRun, SaysWhichOneFailedAndWhere) {
    const TwoVms run = run_of(
        "FLATBACK check a pass\nFLATBACK end\n[vm2] FLATBACK check b fail too late\n[vm2] FLATBACK end\n"
        "[two-vms] switches 1\n");
    EXPECT_EQ(run.vm2.failed, 1U);
    EXPECT_EQ(what_two_vms_lack(run), "the second VM: b: too late");
}

TEST(TwoVmsRun, IsNoneWhereOneDidNotEndOrNothingWasShared) {
    EXPECT_EQ(what_two_vms_lack(run_of("FLATBACK check a pass\nFLATBACK end\n[vm2] FLATBACK check b pass\n")),
              "the second VM did not come to its end");
    EXPECT_EQ(what_two_vms_lack(run_of("FLATBACK check a pass\n[vm2] FLATBACK check b pass\nFLATBACK end\n"
                                       "[vm2] FLATBACK end\n")),
              "L0 told of no switch between the two");
}

}  // namespace
}  // namespace flatback::tools::two_vms_test
