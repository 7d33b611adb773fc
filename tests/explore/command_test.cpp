// `flatback machine explore` as it is called.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "judge/command/command_line.hpp"

namespace flatback::machine::command_test {
namespace {

struct ExploreCommand : testing::Test {
    std::ostringstream out;
    std::ostringstream error;
    std::string json_file =
        testing::TempDir() + testing::UnitTest::GetInstance()->current_test_info()->name() + "-explore.json";

    int run(std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), "explore");
        return command_line(arguments, out, error);
    }
    [[nodiscard]] nlohmann::json json() const { return nlohmann::json::parse(std::ifstream(json_file)); }
    [[nodiscard]] bool one_line_of_error() const {
        const std::string text = error.str();
        return !text.empty() && std::ranges::count(text, '\n') == 1 && text.back() == '\n';
    }
};

TEST_F(ExploreCommand, SaysThatItHolds) {
    EXPECT_EQ(run({"--depth", "4", "--json", json_file}), 0) << error.str();
    EXPECT_NE(out.str().find("verdict: holds\n"), std::string::npos) << out.str();
    EXPECT_EQ(json()["verdict"], "holds");
    EXPECT_EQ(json()["depth"], 4);
    EXPECT_GT(json()["states"].get<int>(), 100);
    EXPECT_GT(json()["seconds"].get<double>(), 0.0);
    EXPECT_EQ(json()["closed"], false);
    EXPECT_TRUE(json()["account"].empty());
}

TEST_F(ExploreCommand, ShowsADefectByAProgram) {
    EXPECT_EQ(run({"--depth", "5", "--defect", "does not flush an evicted tag", "--json", json_file}), 1);
    EXPECT_NE(out.str().find("verdict: broken\n"), std::string::npos) << out.str();
    EXPECT_NE(out.str().find("It should have gone before step 4"), std::string::npos) << out.str();
    EXPECT_EQ(json()["verdict"], "broken");
    EXPECT_EQ(json()["account"].size(), 6U);
}

TEST_F(ExploreCommand, VisitsTheSchedulesOfTwoCpus) {
    const std::vector<std::string> small = {"--l1-cpus", "2",       "--tags", "4",       "--vpids",
                                            "1",         "--pages", "1",      "--pcids", "1",
                                            "--eptps",   "1",       "--json", json_file};
    std::vector<std::string> arguments = small;
    arguments.insert(arguments.end(), {"--depth", "5"});
    EXPECT_EQ(run(arguments), 0) << error.str();
    EXPECT_NE(out.str().find("Schedules of two CPUs of L1"), std::string::npos) << out.str();
    EXPECT_EQ(json()["l1_cpus"], 2);
    EXPECT_EQ(json()["verdict"], "holds");

    arguments = small;
    arguments.insert(arguments.end(), {"--defect", "has one mark of EPT contexts for all processors"});
    EXPECT_EQ(run(arguments), 1) << error.str();
    EXPECT_NE(out.str().find("CPU 1, L1: "), std::string::npos) << out.str();
    EXPECT_NE(out.str().find("On CPU "), std::string::npos) << out.str();
}

TEST_F(ExploreCommand, SearchesTwoVms) {
    const std::vector<std::string> small = {"--vms",   "2",       "--vpids", "1", "--pages", "1",
                                            "--pcids", "1",       "--eptps", "1", "--tags",  "3",
                                            "--json",  json_file, "--depth", "8"};
    std::vector<std::string> arguments = small;
    arguments.insert(arguments.end(), {"--cpus", "1"});
    EXPECT_EQ(run(arguments), 0) << error.str();
    EXPECT_EQ(out.str().rfind("Two VMs that take turns on a processor. ", 0), 0U) << out.str();
    EXPECT_EQ(json()["vms"], 2);
    EXPECT_EQ(json()["verdict"], "holds");

    arguments = small;
    arguments.insert(arguments.end(), {"--defect", "does not flush a tag that was given back"});
    EXPECT_EQ(run(arguments), 1) << error.str();
    EXPECT_NE(out.str().find("VM 0, L1: VMXOFF, VMXON"), std::string::npos) << out.str();
    EXPECT_NE(out.str().find("On VM "), std::string::npos) << out.str();
}

TEST_F(ExploreCommand, SaysWhetherItIsClosed) {
    const std::vector<std::string> small = {"--l1-cpus", "2", "--vmcss", "2",       "--tags",  "2",
                                            "--vpids",   "1", "--pages", "1",       "--pcids", "1",
                                            "--eptps",   "1", "--json",  json_file, "--worst"};
    std::vector<std::string> arguments = small;
    arguments.insert(arguments.end(), {"--depth", "4"});
    EXPECT_EQ(run(arguments), 0) << error.str();
    EXPECT_NE(out.str().find("(not closed: longer programs lead to others)"), std::string::npos) << out.str();
    EXPECT_EQ(json()["closed"], false);
    arguments = small;
    arguments.insert(arguments.end(), {"--depth", "200"});
    EXPECT_EQ(run(arguments), 0) << error.str();
    EXPECT_NE(out.str().find("(closed: no program of any length"), std::string::npos) << out.str();
    EXPECT_EQ(json()["closed"], true);
    EXPECT_EQ(json()["worst"], true);
}

TEST_F(ExploreCommand, SaysWhenMemoryEnds) {
    EXPECT_EQ(run({"--depth", "9", "--memory", "1", "--json", json_file + ".none"}), 3);
    EXPECT_TRUE(one_line_of_error()) << error.str();
    EXPECT_FALSE(std::ifstream(json_file + ".none")) << "a result that is not whole is not written";
}

TEST_F(ExploreCommand, RefusesBadArgumentsInOneLine) {
    for (const std::vector<std::string>& arguments :
         std::vector<std::vector<std::string>>{{"--depth", "0"},
                                               {"--tags", "4"},
                                               {"--l1-cpus", "3"},
                                               {"--l1-cpus", "2", "--tags", "1"},
                                               {"--vmcss", "2"},
                                               {"--vms", "3"},
                                               {"--vms", "2", "--l1-cpus", "2"},
                                               {"--vms", "2", "--vmcss", "2"},
                                               {"--vms", "2", "--tags", "1"},
                                               {"--defect", "gives a VM its turn without what it owes"},
                                               {"--defect", "loses the call to drop a page that was taken"},
                                               {"--memory", "0"},
                                               {"--policy", "best"},
                                               {"--defect", "none such"},
                                               {"--json", "/nowhere/at/all", "--depth", "1"}}) {
        error.str("");
        EXPECT_EQ(run(arguments), 2) << arguments.front();
        EXPECT_TRUE(one_line_of_error()) << error.str();
    }
}

/// The retentive TLBs of the other commands are bounded too.
TEST_F(ExploreCommand, OtherCommandsEndAtTheirBoundOfRetainedEntriesInOneLine) {
    EXPECT_EQ(command_line(std::vector<std::string>{"mutants", "--tlb-entries", "4"}, out, error), 3);
    EXPECT_TRUE(one_line_of_error());
    EXPECT_EQ(error.str(), "flatback machine: retentive TLB: the limit of 4 entries is reached\n");

    error.str("");
    const std::string program =
        testing::TempDir() + testing::UnitTest::GetInstance()->current_test_info()->name() + "-many.txt";
    std::ofstream file(program);
    for (unsigned page = 0; page < 8; ++page) file << "l1 load " << (page * 0x20'0000U) << "\n";
    file.close();
    EXPECT_EQ(command_line(std::vector<std::string>{"run", "--tlb-entries", "4", program}, out, error), 3);
    EXPECT_EQ(error.str(), "flatback machine: retentive TLB: the limit of 4 entries is reached\n");
}

TEST_F(ExploreCommand, ListsDefects) {
    EXPECT_EQ(run({"--list-defects"}), 0);
    EXPECT_NE(out.str().find("drops every INVVPID\n"), std::string::npos);
}

}  // namespace
}  // namespace flatback::machine::command_test
