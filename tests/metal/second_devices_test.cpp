// The devices of the second VM: what its guest prints, line by line, and the word by which it ends.
#include "metal/l0/second_devices.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace flatback::metal::second_devices_test {
namespace {

constexpr std::uint16_t com1 = 0x3f8;

class SecondDevicesTest : public ::testing::Test {
protected:
    void print(std::string_view text) {
        for (const char each : text) EXPECT_TRUE(devices->write(com1, 1, static_cast<unsigned char>(each)));
    }
    std::vector<std::string> lines() {
        std::vector<std::string> found;
        devices->lines().take_lines([&](std::string_view line) { found.emplace_back(line); });
        return found;
    }
    bool end_by(std::string_view word) {
        bool ended = false;
        for (const char each : word)
            ended = !devices->write(EndPort::port, 1, static_cast<unsigned char>(each)) || ended;
        return ended;
    }

    std::unique_ptr<SecondDevices> devices = std::make_unique<SecondDevices>();
};

TEST_F(SecondDevicesTest, GiveWholeLinesAlone) {
    print("one\r\ntwo\nthr");
    EXPECT_TRUE(devices->lines().has_line());
    EXPECT_EQ(lines(), (std::vector<std::string>{"one", "two"}));
    EXPECT_FALSE(devices->lines().has_line());
    print("ee\n");
    EXPECT_EQ(lines(), (std::vector<std::string>{"three"}));
    print("four");
    devices->lines().end_line();
    EXPECT_EQ(lines(), (std::vector<std::string>{"four"}));
    devices->lines().end_line();
    EXPECT_EQ(lines(), (std::vector<std::string>{})) << "there was nothing to end";
}

TEST_F(SecondDevicesTest, ShowWhatIsNoTextAsQuestionMarks) {
    print("a\x1b[2J\x80\tb\n");
    EXPECT_EQ(lines(), (std::vector<std::string>{"a?[2J?\tb"}));
}

// The first register is the divisor latch then.
TEST_F(SecondDevicesTest, TakeADivisorForNoCharacter) {
    EXPECT_TRUE(devices->write(com1 + 3, 1, 0x83));
    print("\x01");
    EXPECT_TRUE(devices->write(com1 + 3, 1, 0x03));
    print("x\n");
    EXPECT_EQ(lines(), (std::vector<std::string>{"x"}));
}

TEST_F(SecondDevicesTest, AreReadyAndOtherwiseThereIsNothing) {
    EXPECT_EQ(devices->read(com1 + 5, 1), 0x60U);
    EXPECT_EQ(devices->read(0x60, 4), 0xffff'ffffU);
    EXPECT_EQ(devices->read(0x71, 1), 0U) << "a clock that stands still";
    EXPECT_EQ(devices->read(0x70, 2), 0x00ffU);
    EXPECT_EQ(devices->read(0xffff, 4), 0xffff'ffffU) << "past the last port";
    EXPECT_TRUE(devices->write(0xffff, 4, 0));
}

TEST_F(SecondDevicesTest, EndByTheWholeWord) {
    EXPECT_FALSE(end_by("Shutdow"));
    EXPECT_FALSE(end_by("Shut"));
    EXPECT_TRUE(end_by("SShutdown"));
    EXPECT_FALSE(end_by("hutdown"));
}

// A guest that prints without an end costs a line, and tells so.
TEST_F(SecondDevicesTest, LoseWhatDoesNotFitAndSaySo) {
    print(std::string(100'000, 'x'));
    EXPECT_FALSE(devices->lines().has_line());
    print("\n");
    const auto found = lines();
    ASSERT_EQ(found.size(), 2U);
    EXPECT_EQ(found[0].size(), 65535U);
    EXPECT_EQ(found[1], "(characters were lost here)");
    print("good\n");
    EXPECT_EQ(lines(), (std::vector<std::string>{"good"}));
}

}  // namespace
}  // namespace flatback::metal::second_devices_test
