#include "tools/ground/user_terminal.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <thread>

#include "tools/ground/child_process.hpp"
#include "tools/ground/pseudo_terminal.hpp"

namespace flatback::tools::user_terminal_test {
namespace {

using Action = EscapeKey::Action;

TEST(EscapeKey, WhatIsTypedGoesThrough) {
    EscapeKey escape;
    const auto [bytes, action] = escape.filter("ls\r\x03\x1b[A\xC3\xA4");
    EXPECT_EQ(bytes, "ls\r\x03\x1b[A\xC3\xA4");
    EXPECT_EQ(action, Action::none);
}

TEST(EscapeKey, ControlAXLeavesAndWhatStandsBehindItIsLost) {
    EscapeKey escape;
    const auto [bytes, action] = escape.filter("ab\x01xcd");
    EXPECT_EQ(bytes, "ab");
    EXPECT_EQ(action, Action::leave);
}

TEST(EscapeKey, TheTwoKeysMayComeApart) {
    EscapeKey escape;
    EXPECT_EQ(escape.filter("\x01").action, Action::none);
    EXPECT_EQ(escape.filter("").action, Action::none);
    EXPECT_EQ(escape.filter("x").action, Action::leave);
}

TEST(EscapeKey, ControlATwiceOrWithAIsOneForTheGuest) {
    EscapeKey escape;
    EXPECT_EQ(escape.filter("\x01\x01").bytes, "\x01");
    EXPECT_EQ(escape
                  .filter("\x01"
                          "a")
                  .bytes,
              "\x01");
    EXPECT_EQ(escape.filter("\x01k").bytes, "\x01k");
    EXPECT_EQ(escape.filter("x").action, Action::none);
}

TEST(EscapeKey, HelpIsTold) {
    EscapeKey escape;
    const auto [bytes, action] = escape.filter("\x01hx");
    EXPECT_EQ(action, Action::help);
    EXPECT_EQ(bytes, "x");
}

// Reads until `text` is there, or some seconds are over.
std::string read_until(PseudoTerminal& terminal, std::string_view text) {
    std::string all;
    for (int i = 0; i < 1000 && all.find(text) == std::string::npos; ++i) {
        all += terminal.read();
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
    return all;
}

TEST(PseudoTerminal, AProgramHasItAsItsTerminalAndControlCStopsIt) {
    auto terminal = PseudoTerminal::create(PseudoTerminal::Mode::usual);
    ASSERT_TRUE(terminal.has_value());
    CommandLine command;
    command.arguments = {"sh", "-c",
                         "test -t 0 && test -t 1 && echo it is; read line; echo got $line; sleep 100"};
    command.terminal = terminal->path();
    auto child = ChildProcess::start(command);
    ASSERT_TRUE(child.has_value());
    EXPECT_NE(read_until(*terminal, "it is\r\n").find("it is\r\n"), std::string::npos);
    terminal->write("a line\r");
    EXPECT_NE(read_until(*terminal, "got a line").find("got a line"), std::string::npos);
    terminal->write("\x03");
    for (int i = 0; i < 1000 && !child->poll(); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
    EXPECT_EQ(child->poll(), 128 + SIGINT);
}

TEST(PseudoTerminal, InRawModeBytesGoThroughAsTheyAre) {
    auto terminal = PseudoTerminal::create(PseudoTerminal::Mode::raw);
    ASSERT_TRUE(terminal.has_value());
    const int other = ::open(terminal->path().c_str(), O_RDWR | O_NOCTTY);
    ASSERT_GE(other, 0);
    constexpr std::string_view sent = "\x03\r\n\x04z";
    terminal->write(sent);
    std::array<char, 16> buffer{};
    const ssize_t count = ::read(other, buffer.data(), buffer.size());
    ASSERT_EQ(count, static_cast<ssize_t>(sent.size()));
    EXPECT_EQ(std::string_view(buffer.data(), sent.size()), sent);
    ASSERT_EQ(::write(other, "\n", 1), 1);
    EXPECT_EQ(read_until(*terminal, "\n"), "\n");
    ::close(other);
}

}  // namespace
}  // namespace flatback::tools::user_terminal_test
