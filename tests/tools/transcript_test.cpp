#include "tools/emulator/transcript.hpp"

#include <gtest/gtest.h>

namespace flatback::tools::transcript_test {
namespace {

TEST(Transcript, RecordsMayArriveInPieces) {
    Transcript transcript;
    for (const char character :
         std::string_view{"FLATBACK stage l0\nnoise\nFLATBACK value a.b 7\r\nFLATBACK end\n"}) {
        transcript.append(std::string_view{&character, 1});
    }
    EXPECT_TRUE(transcript.reached("l0"));
    EXPECT_FALSE(transcript.reached("l"));
    EXPECT_EQ(transcript.values().at("a.b"), "7");
    EXPECT_TRUE(transcript.ended());
    EXPECT_TRUE(transcript.errors().empty());
}

TEST(Transcript, ALineWithoutItsNewlineCountsOnlyOnceTheRunIsOver) {
    Transcript transcript;
    transcript.append("FLATBACK end");
    EXPECT_FALSE(transcript.ended());
    transcript.finish();
    EXPECT_TRUE(transcript.ended());
}

TEST(Transcript, ADamagedRecordIsAnError) {
    Transcript transcript;
    transcript.append("FLATBACK value a.b 12[L0] exit\n");
    EXPECT_TRUE(transcript.values().empty());
    ASSERT_EQ(transcript.errors().size(), 1U);
    EXPECT_NE(transcript.errors()[0].find("12[L0]"), std::string::npos);
}

TEST(Transcript, TheListenerSeesEveryLineAndWhichAreRecords) {
    std::vector<std::pair<std::string, bool>> seen;
    Transcript transcript{[&seen](std::string_view line, const SerialRecord* record) {
        seen.emplace_back(line, record != nullptr);
    }};
    transcript.append("Booting\n\nFLATBACK stage l0\n");
    const std::vector<std::pair<std::string, bool>> expected{
        {"Booting", false}, {"", false}, {"FLATBACK stage l0", true}};
    EXPECT_EQ(seen, expected);
    EXPECT_EQ(transcript.last_line(), "FLATBACK stage l0");
}

TEST(Transcript, ALaterValueOfTheSameKeyReplacesTheEarlierOne) {
    Transcript transcript;
    transcript.append("FLATBACK value k 1\nFLATBACK value k 2\n");
    EXPECT_EQ(transcript.values().at("k"), "2");
}

TEST(Transcript, L0IsKnownByTimeAndThenByItsMark) {
    std::vector<std::string> lines;
    Transcript transcript{[&lines](std::string_view line, const SerialRecord*) { lines.emplace_back(line); },
                          {.l0 = true, .guest_records = false, .mark = {}}};
    transcript.append("FLATBACK stage l0\nFLATBACK text l0.mark 0af1\nFLATBACK stage l1-entry\n");
    EXPECT_FALSE(transcript.l1_started());
    transcript.append("FLATBACK value l0.l1_entry_tsc 9\n");
    EXPECT_TRUE(transcript.l1_started());
    EXPECT_EQ(transcript.last_line(), "") << "L1 has printed nothing yet";
    transcript.append(
        "FLATBACK stage mine\nFLATBACK 0af1 error L0: a failure\nFLATBACK 0af error L0: none\n");
    EXPECT_EQ(transcript.stages(), (std::vector<std::string>{"l0", "l1-entry"}));
    EXPECT_EQ(transcript.platform_error(), "L0: a failure");
    EXPECT_EQ(transcript.errors().size(), 1U);
    EXPECT_EQ(transcript.texts().count("l0.mark"), 0U);
    EXPECT_EQ(lines.at(5), "FLATBACK error L0: a failure");
    // The last line of L1's: L0's is none.
    EXPECT_EQ(transcript.last_line(), "FLATBACK 0af error L0: none");
}

TEST(Transcript, SeveralL0sSpeakBeforeL1AndEachByItsMark) {
    Transcript transcript{{}, {.l0 = true, .levels = 2, .guest_records = false, .mark = {}}};
    transcript.append("FLATBACK text l0.mark 0af1\nFLATBACK value l0.l1_entry_tsc 9\n");
    EXPECT_FALSE(transcript.l1_started());
    transcript.append("FLATBACK stage l0\nFLATBACK text l0.mark 7b\nFLATBACK value l0.l1_entry_tsc 19\n");
    EXPECT_TRUE(transcript.l1_started());
    transcript.append("FLATBACK stage mine\nFLATBACK 7b error L1: dead\n");
    EXPECT_EQ(transcript.stages(), std::vector<std::string>{"l0"});
    EXPECT_EQ(transcript.platform_error(), "L1: dead");
}

TEST(Transcript, ADamagedLastRecordOfL0StillEndsItsTime) {
    Transcript transcript{{}, {.l0 = true, .guest_records = false, .mark = {}}};
    transcript.append("FLATBACK value l0.l1_entry_tsc 12Hello from L1\nFLATBACK stage mine\n");
    EXPECT_TRUE(transcript.stages().empty());
}

}  // namespace
}  // namespace flatback::tools::transcript_test
