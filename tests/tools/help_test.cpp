// The help texts that the script at the root prints without a build are those of the command.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "tools/command/command_line.hpp"

namespace flatback::tools::help_test {
namespace {

const std::filesystem::path source{FLATBACK_SOURCE_DIRECTORY};

std::string contents(const std::filesystem::path& file) {
    std::ostringstream text;
    text << std::ifstream{file}.rdbuf();
    return text.str();
}

std::string information(std::vector<std::string> words) {
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    const auto command = parse_command_line(arguments);
    if (!command || !std::holds_alternative<Information>(*command)) return "no information";
    return std::get<Information>(*command).text;
}

// Each command that --help names has a file, and each file a command.
std::vector<std::string> commands() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator{source / "tools" / "help"}) {
        const std::filesystem::path& file = entry.path();
        // The machine's are compared where the machine is tested (tests/machine/help_test.cpp).
        if (file.extension() == ".txt" && file.stem() != "flatback" && file.stem() != "machine")
            names.push_back(file.stem());
    }
    return names;
}

void expect_same(const std::string& name, const std::string& text) {
    const std::filesystem::path file = source / "tools" / "help" / (name + ".txt");
    if (std::getenv("FLATBACK_WRITE_HELP") != nullptr) std::ofstream{file} << text;
    EXPECT_EQ(contents(file), text) << "write it anew: FLATBACK_WRITE_HELP=1 build/tests/tools/tools_tests "
                                       "--gtest_filter='HelpTexts.*'";
}

TEST(HelpTexts, AreThoseOfTheCommand) {
    expect_same("flatback", information({"flatback", "--help"}));
    for (const std::string& name : commands()) expect_same(name, information({"flatback", name, "--help"}));
}

TEST(HelpTexts, EveryCommandThatIsListedHasOne) {
    const std::string all = information({"flatback", "--help"});
    std::istringstream lines{all.substr(all.find("Subcommands:"))};
    std::string line;
    std::getline(lines, line);
    std::size_t count = 0;
    while (std::getline(lines, line) && line.starts_with("  ")) {
        // A name begins where a description's further lines do not.
        if (line[2] == ' ') continue;
        const std::string name = line.substr(2, line.find(' ', 2) - 2);
        EXPECT_TRUE(std::filesystem::exists(source / "tools" / "help" / (name + ".txt"))) << name;
        ++count;
    }
    EXPECT_EQ(count, commands().size() + 1);  // and the machine
}

TEST(HelpTexts, EveryCommandTellsTheVersion) {
    const std::string version = information({"flatback", "--version"});
    EXPECT_TRUE(version.starts_with("flatback "));
    for (const std::string& name : commands())
        EXPECT_EQ(information({"flatback", name, "--version"}), version) << name;
}

}  // namespace
}  // namespace flatback::tools::help_test
