#include "judge/command/command_line.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

namespace flatback::machine::command_line_test {
namespace {

struct CommandLine : testing::Test {
    std::ostringstream out;
    std::ostringstream error;

    int run(const std::vector<std::string>& arguments) { return command_line(arguments, out, error); }
    /// A file of this test's own: others run at the same time.
    static std::string file(const std::string& name, const std::string& content) {
        std::string path =
            testing::TempDir() + testing::UnitTest::GetInstance()->current_test_info()->name() + "-" + name;
        std::ofstream(path, std::ios::binary) << content;
        return path;
    }
    /// Exactly one line was said on the error stream.
    [[nodiscard]] bool one_line() const {
        const std::string text = error.str();
        return !text.empty() && text.find('\n') == text.size() - 1;
    }
};

TEST_F(CommandLine, JsonForStandardOutputIsAloneThere) {
    EXPECT_EQ(run({"explore", "--depth", "2", "--json", "-"}), 0);
    EXPECT_TRUE(nlohmann::json::accept(out.str())) << out.str();
    EXPECT_NE(error.str().find("verdict: holds"), std::string::npos);
}

TEST_F(CommandLine, RunsAProgramStepByStep) {
    EXPECT_EQ(
        run({"run", file("p.txt", "edit poke d0 7\nedit map t0 0x40000000 d0 rw\nl1 load 0x40000000\n")}), 0);
    EXPECT_NE(out.str().find("   2  l1 load 0x40000000\n      done, value 0x7\n"), std::string::npos)
        << out.str();
    EXPECT_EQ(error.str(), "");
}

TEST_F(CommandLine, SaysEveryOutcomeWhereThereAreSeveral) {
    const std::string program =
        "edit map t0 0x40000000 d0 rw\nl1 load 0x40000000\nedit map t0 0x40000000 d1 rw\nl1 load "
        "0x40000000\n";
    EXPECT_EQ(run({"run", file("p.txt", program)}), 0);
    EXPECT_NE(
        out.str().find("may be: host-physical 0x800000, from a linear mapping of VPID 0, PCID 0x0, made at "
                       "step 1"),
        std::string::npos)
        << out.str();
}

TEST_F(CommandLine, RefusesABadProgramInOneLine) {
    const std::string path = file("bad.txt", "l1 nop\nl1 vmlanch\n");
    EXPECT_EQ(run({"run", path}), 2);
    EXPECT_EQ(error.str(), "flatback machine: " + path + ":2:4: unknown step \"vmlanch\"\n");
}

TEST_F(CommandLine, RefusesAFileThatIsNotThereInOneLine) {
    EXPECT_EQ(run({"run", "/nowhere/at/all"}), 2);
    EXPECT_EQ(error.str(), "flatback machine: /nowhere/at/all: cannot be read\n");
}

TEST_F(CommandLine, RefusesWhatIsNoFileOfAProgramInOneLine) {
    EXPECT_EQ(run({"run", testing::TempDir()}), 2);
    EXPECT_EQ(error.str(), "flatback machine: " + testing::TempDir() + ": cannot be read\n");
    for (const std::vector<std::string>& form : {std::vector<std::string>{"run"}, {"run", "--bytes"}}) {
        error.str("");
        std::vector<std::string> arguments = form;
        arguments.emplace_back("/dev/zero");
        EXPECT_EQ(run(arguments), 2);
        EXPECT_EQ(error.str(), "flatback machine: /dev/zero: more than 134217728 bytes are no program\n");
    }
}

TEST_F(CommandLine, RefusesBytesThatAreNoTextInOneLine) {
    std::string binary;
    for (unsigned byte = 0; byte < 256; ++byte) binary += static_cast<char>(byte);
    for (const std::string& content :
         {binary, std::string(3, '\0'), std::string("\xff\xfe"), "l1 " + std::string(100'000, 'x')}) {
        error.str("");
        EXPECT_EQ(run({"run", file("binary.txt", content)}), 2);
        EXPECT_TRUE(one_line()) << error.str();
        EXPECT_LT(error.str().size(), 300U);
    }
}

TEST_F(CommandLine, ANameOfTwoLinesIsToldInOne) {
    EXPECT_EQ(run({"run", "/nowhere\nat all"}), 2);
    EXPECT_TRUE(one_line()) << error.str();
}

TEST_F(CommandLine, AnEmptyProgramDoesNothing) {
    EXPECT_EQ(run({"run", file("empty.txt", "")}), 0);
    EXPECT_EQ(out.str(), "");
}

TEST_F(CommandLine, PrintsBytesAsText) {
    EXPECT_EQ(run({"run", "--bytes", "--print", file("p.bin", std::string("\x01\x00\x00\x00\x1d", 5))}), 0);
    EXPECT_EQ(out.str(), "l1 load 0x40000000\nl1 vmxon 0x10000\n");
}

TEST_F(CommandLine, RefusesTooManyBytesInOneLine) {
    const std::string path = file("long.bin", std::string(4 * 4096 + 1, '\0'));
    EXPECT_EQ(run({"run", "--bytes", path}), 2);
    EXPECT_EQ(error.str(), "flatback machine: " + path + ": byte 16384: a program has at most 4096 steps\n");
}

TEST_F(CommandLine, SaysWhichLimitWasReached) {
    std::string program;
    for (int page = 0; page < 300; ++page)
        program += "edit poke " + std::to_string(0x900000 + page * 4096) + " 1\n";
    EXPECT_EQ(run({"run", "--memory", "1", file("big.txt", program)}), 3);
    EXPECT_EQ(error.str(), "flatback machine: physical memory: the limit of 1048576 bytes is reached\n");
}

TEST_F(CommandLine, RefusesBadArgumentsInOneLine) {
    EXPECT_EQ(run({}), 2);
    EXPECT_TRUE(one_line()) << error.str();
    error.str("");
    EXPECT_EQ(run({"lat_ctx", "--tlb", "pentium"}), 2);
    EXPECT_TRUE(one_line()) << error.str();
    error.str("");
    EXPECT_EQ(run({"run"}), 2);
    EXPECT_TRUE(one_line()) << error.str();
}

TEST_F(CommandLine, WritesThePriceListAsJson) {
    const std::string path = testing::TempDir() + "price.json";
    ASSERT_EQ(run({"lat_ctx", "--policy", "mapped,bare", "--json", path}), 0);
    const nlohmann::json json = nlohmann::json::parse(std::ifstream(path));
    for (const char* column : {"2p/0K", "2p/16K", "2p/64K", "8p/16K", "8p/64K", "16p/16K", "16p/64K"}) {
        for (const char* figure : {"misses", "walk_references", "cycles"}) {
            EXPECT_GT(json["columns"][column]["mapped"][figure].get<double>(), 0.0) << column << figure;
        }
        EXPECT_FALSE(json["columns"][column].contains("single"));
    }
    for (const char* count : {"1", "2", "4", "8", "16", "32"}) {
        EXPECT_GT(json["l2s"][count]["bare"]["misses"].get<double>(), 0.0) << count;
    }
}

TEST_F(CommandLine, SaysWhereJsonCanNotBeWritten) {
    EXPECT_EQ(run({"lat_ctx", "--policy", "bare", "--json", "/nowhere/at/all"}), 2);
    EXPECT_EQ(error.str(), "flatback machine: /nowhere/at/all: cannot be written\n");
}

TEST_F(CommandLine, HelpsOnRequest) {
    EXPECT_EQ(run({"--help"}), 0);
    EXPECT_NE(out.str().find("lat_ctx"), std::string::npos);
}

}  // namespace
}  // namespace flatback::machine::command_line_test
