#include "tools/transcript.hpp"

#include <gtest/gtest.h>

namespace flatback::tools {
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

}  // namespace
}  // namespace flatback::tools
