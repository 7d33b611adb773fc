#include "tools/ground/child_process.hpp"

#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <thread>

#include "tools/ground/files.hpp"
#include "tools/ground/temporary_directory.hpp"

namespace flatback::tools::child_process_test {
namespace {

using namespace std::chrono_literals;

TEST(ChildProcess, ItsStatusAndOutputComeBack) {
    const auto finished = run_to_end({.arguments = {"sh", "-c", "echo out; echo $V >&2; exit 7"},
                                      .directory = {},
                                      .output = {},
                                      .environment = {"V=err=or"}},
                                     10s);
    ASSERT_TRUE(finished.has_value());
    EXPECT_EQ(finished->status, 7);
    EXPECT_EQ(finished->output, "out\nerr=or\n");
}

TEST(ChildProcess, ItsProcessorTimeGrowsOnlyWhereItWorks) {
    auto busy = ChildProcess::start(
        {.arguments = {"sh", "-c", "while :; do :; done"}, .directory = {}, .output = {}, .environment = {}});
    auto asleep =
        ChildProcess::start({.arguments = {"sleep", "60"}, .directory = {}, .output = {}, .environment = {}});
    ASSERT_TRUE(busy.has_value());
    ASSERT_TRUE(asleep.has_value());
    while (busy->processor_time() < 200ms) std::this_thread::sleep_for(10ms);
    EXPECT_LT(asleep->processor_time(), 100ms);
    busy->stop();
    EXPECT_EQ(busy->processor_time(), 0ns);
}

TEST(ChildProcess, AMissingProgramIsNamed) {
    const auto finished =
        run_to_end({.arguments = {"no-such-program"}, .directory = {}, .output = {}, .environment = {}}, 10s);
    ASSERT_FALSE(finished.has_value());
    EXPECT_EQ(finished.error().status, ExitStatus::missing_program);
    EXPECT_NE(finished.error().message.find("no-such-program"), std::string::npos);
}

TEST(ChildProcess, OneThatTakesTooLongIsEndedWithWhatItStarted) {
    const auto directory = TemporaryDirectory::create();
    ASSERT_TRUE(directory.has_value());
    const auto start = std::chrono::steady_clock::now();
    const auto finished = run_to_end({.arguments = {"sh", "-c", "sleep 60 & echo $! > pid; wait"},
                                      .directory = directory->path(),
                                      .output = {},
                                      .environment = {}},
                                     1s);
    ASSERT_FALSE(finished.has_value());
    EXPECT_EQ(finished.error().status, ExitStatus::time_up);
    EXPECT_LT(std::chrono::steady_clock::now() - start, 30s);
    const auto pid_file = read_file(directory->path() / "pid");
    ASSERT_TRUE(pid_file.has_value());
    const pid_t pid = std::stoi(std::string{text_of(*pid_file)});
    for (int wait = 0; wait < 100 && ::kill(pid, 0) == 0; ++wait) std::this_thread::sleep_for(20ms);
    EXPECT_NE(::kill(pid, 0), 0);
}

TEST(ChildProcess, OneThatIgnoresTheFirstSignalIsEndedByTheSecond) {
    auto child = ChildProcess::start({.arguments = {"sh", "-c", "trap '' TERM; sleep 60"},
                                      .directory = {},
                                      .output = {},
                                      .environment = {}});
    ASSERT_TRUE(child.has_value());
    std::this_thread::sleep_for(200ms);
    child->stop(100ms);
    ASSERT_TRUE(child->poll().has_value());
    EXPECT_EQ(*child->poll(), 128 + SIGKILL);
}

TEST(TemporaryDirectory, IsGoneWithEverythingInItAfterItsLife) {
    std::filesystem::path path;
    {
        const auto directory = TemporaryDirectory::create();
        ASSERT_TRUE(directory.has_value());
        path = directory->path();
        ASSERT_TRUE(make_directory(path / "a" / "b").has_value());
        ASSERT_TRUE(write_file(path / "a" / "b" / "c", "x").has_value());
    }
    EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(Files, WhatCannotBeReadIsNamedWithItsReason) {
    EXPECT_EQ(read_file("/nowhere/at/all").error().message,
              "cannot read /nowhere/at/all: No such file or directory");
    EXPECT_EQ(read_file("/").error().message, "cannot read /: not a regular file");
    const auto directory = TemporaryDirectory::create();
    ASSERT_TRUE(directory.has_value());
    ASSERT_TRUE(write_file(directory->path() / "empty", "").has_value());
    EXPECT_TRUE(read_file(directory->path() / "empty").error().message.ends_with("empty is empty"));
}

TEST(Files, AFullDiskIsAnError) {
    const auto written = write_file("/dev/full", "x");
    ASSERT_FALSE(written.has_value());
    EXPECT_EQ(written.error().status, ExitStatus::output_file);
    EXPECT_EQ(written.error().message, "cannot write /dev/full: No space left on device");
}

}  // namespace
}  // namespace flatback::tools::child_process_test
