// What an L0 that ended on one of several processors has to have said.
#include "tools/check/l0_stops.hpp"

#include <gtest/gtest.h>

namespace flatback::tools::l0_stops_test {
namespace {

constexpr std::string_view l1_says =
    "FLATBACK text l0_stops.0 L1 0x1000 0x1003\nFLATBACK text l0_stops.1 L2 0x2000 0x2004\n"
    "FLATBACK text l0_stops.3 ends-alone 0x0 0x0\nFLATBACK text l0_stops.4 waits 0x0 0x0\n";
constexpr std::string_view error = "FLATBACK error L0: L1 has asked for it\r\n";

std::string lacks(std::string_view l1, std::string_view l0) {
    Transcript transcript;
    transcript.append(l1);
    transcript.append(l0);
    transcript.finish();
    return what_ended_l0_lacks(transcript);
}
std::string lacks_after(std::string_view l0) {
    return lacks(l1_says, std::string{error} + std::string{l0});
}

constexpr std::string_view good =
    "[L0] processor 0 was in L1, at 0x1002\r\n[L0] processor 1 was in a guest of L1's, at 0x2000\r\n"
    "[L0] processor 4 waited for L1 to start it\r\n";

TEST(EndOfL0, SaysOfEachOtherProcessorWhereItWas) {
    EXPECT_EQ(lacks_after(good), "");
}

TEST(EndOfL0, AProcessorThatIsLeftOutIsMissed) {
    EXPECT_NE(lacks_after("[L0] processor 0 was in L1, at 0x1002\n"
                          "[L0] processor 4 waited for L1 to start it\n"),
              "");
}

TEST(EndOfL0, AnotherPlaceIsFound) {
    for (const char* const said : {"was in L1, at 0x2000", "was in a guest of L1's, at 0x2004",
                                   "was in L0, at 0x2000", "did not stop", ""}) {
        EXPECT_NE(lacks_after("[L0] processor 0 was in L1, at 0x1002\n[L0] processor 1 " + std::string{said} +
                              "\n[L0] processor 4 waited for L1 to start it\n"),
                  "")
            << said;
    }
}

TEST(EndOfL0, ALineThatIsNotWholeIsFound) {
    EXPECT_NE(lacks_after("[L0] processor 0 was in L1, at 0x1[L0] x\n002\n"
                          "[L0] processor 1 was in a guest of L1's, at 0x2000\n"
                          "[L0] processor 4 waited for L1 to start it\n"),
              "");
    EXPECT_NE(lacks_after(std::string{good} + "[L0] processor 0 was in L1, at 0x1002\n"), "");
}

TEST(EndOfL0, TheLastEventsAreInTheOrderOfTheirTimesWithTheirProcessors) {
    const std::string heading = std::string{good} + "[L0] the last events, newest last:\r\n";
    const std::string first = "[L0]   tsc 9 processor 1 L1 is entered, tag 1\r\n";
    const std::string second = "[L0]   tsc 10 processor 0 L2 exits: CPUID at 0x1\r\n";
    EXPECT_EQ(lacks_after(heading + first + second + "[L0] the current VMCS\r\n"), "");
    EXPECT_NE(lacks_after(heading + second + first), "");
    EXPECT_NE(lacks_after(heading + first + "[L0]   tsc 11 processor 1 L2 exits: CPUID at 0x1\r\n"), "");
    EXPECT_NE(lacks_after(heading + first + "[L0]   tsc 11 L2 exits: CPUID at 0x1, tag 1\r\n"), "");
    EXPECT_NE(lacks_after(heading), "");
}

TEST(EndOfL0, TheOneThatEndedItIsNotAmongTheOthers) {
    EXPECT_NE(lacks_after(std::string{good} + "[L0] processor 3 was in L0, at 0x5000\n"), "");
}

TEST(EndOfL0, OfTwoThatEndItAtOnceOneSaysWhy) {
    constexpr std::string_view two =
        "FLATBACK text l0_stops.3 ends 0x0 0x0\nFLATBACK text l0_stops.4 ends 0x0 0x0\n";
    const std::string once{error};
    EXPECT_EQ(lacks(two, once + "[L0] processor 4 was in L0, at 0x5000\n"), "");
    EXPECT_EQ(lacks(two, once + "[L0] processor 3 was in L0, at 0x5000\n"), "");
    EXPECT_NE(lacks(two, once), "");
    EXPECT_NE(lacks(two, once + once + "[L0] processor 3 was in L0, at 0x5000\n"), "");
    EXPECT_NE(lacks(two, once + "[L0] processor 3 was in L0, at 0x5000\n"
                                "[L0] processor 4 was in L0, at 0x5000\n"),
              "");
}

TEST(EndOfL0, NothingToldIsNoSuccess) {
    EXPECT_NE(lacks("", error), "");
}

}  // namespace
}  // namespace flatback::tools::l0_stops_test
