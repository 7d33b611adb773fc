#include "guests/linux/uart.hpp"

#include <gtest/gtest.h>

#include <string>

namespace flatback::guests::uart_test {
namespace {

class UartTest : public testing::Test {
protected:
    std::string sent_;
    Uart uart_{[this](char byte) { sent_.push_back(byte); }};
};

TEST_F(UartTest, BytesWrittenGoOutAndTheTransmitterStaysReady) {
    uart_.write(0, 'a');
    uart_.write(0, 'b');
    EXPECT_EQ(sent_, "ab");
    EXPECT_EQ(uart_.read(5), 0x60);
    EXPECT_FALSE(uart_.interrupt());
}

TEST_F(UartTest, TheDivisorIsNoData) {
    uart_.write(3, 0x80);
    uart_.write(0, 0x34);
    uart_.write(1, 0x12);
    EXPECT_EQ(uart_.read(0), 0x34);
    EXPECT_EQ(uart_.read(1), 0x12);
    uart_.write(3, 0x03);
    EXPECT_EQ(uart_.read(1), 0) << "the interrupt enables are another register";
    EXPECT_EQ(sent_, "");
}

TEST_F(UartTest, ReceivedBytesInterruptUntilTheyAreRead) {
    uart_.receive("ok");
    EXPECT_FALSE(uart_.interrupt()) << "nobody enabled it";
    uart_.write(1, 0x01);
    EXPECT_TRUE(uart_.interrupt());
    EXPECT_EQ(uart_.read(2) & 0x0F, 0x04);
    EXPECT_EQ(uart_.read(5), 0x61);
    EXPECT_EQ(uart_.read(0), 'o');
    EXPECT_TRUE(uart_.interrupt());
    EXPECT_EQ(uart_.read(0), 'k');
    EXPECT_FALSE(uart_.interrupt());
    EXPECT_EQ(uart_.read(2) & 0x0F, 0x01);
    EXPECT_EQ(uart_.read(5), 0x60);
}

TEST_F(UartTest, TheTransmittersInterruptComesWhenEnabledAndGoesWhenIdentified) {
    uart_.write(1, 0x02);
    EXPECT_TRUE(uart_.interrupt());
    EXPECT_EQ(uart_.read(2) & 0x0F, 0x02);
    EXPECT_FALSE(uart_.interrupt());
    uart_.write(0, 'x');
    EXPECT_TRUE(uart_.interrupt()) << "it is empty again";
    uart_.write(1, 0x00);
    EXPECT_FALSE(uart_.interrupt());
}

TEST_F(UartTest, ADriverFindsA16550A) {
    uart_.write(1, 0xFF);
    EXPECT_EQ(uart_.read(1), 0x0F) << "four enables and no more";
    uart_.write(7, 0x5A);
    EXPECT_EQ(uart_.read(7), 0x5A);
    uart_.write(4, 0x1A);  // loopback, with RTS and OUT2
    EXPECT_EQ(uart_.read(6) & 0xF0, 0x90);
    uart_.write(0, 'x');
    EXPECT_EQ(sent_, "") << "in loopback nothing goes out";
    uart_.write(2, 0x01);
    EXPECT_EQ(uart_.read(2) & 0xC0, 0xC0);
}

TEST_F(UartTest, ClearingTheReceiverDropsWhatCame) {
    uart_.receive("old");
    uart_.write(2, 0x03);
    EXPECT_EQ(uart_.read(5), 0x60);
}

}  // namespace
}  // namespace flatback::guests::uart_test
