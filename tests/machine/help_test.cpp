// The help texts of `flatback machine` that the script at the root prints without a build are its own.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "judge/command/command_line.hpp"

namespace flatback::machine::help_test {
namespace {

std::string help_of(std::vector<std::string> arguments) {
    arguments.emplace_back("--help");
    std::ostringstream out;
    std::ostringstream error;
    EXPECT_EQ(command_line(arguments, out, error), 0);
    return out.str();
}

void expect_same(const std::filesystem::path& name, const std::string& text) {
    const std::filesystem::path file =
        std::filesystem::path{FLATBACK_SOURCE_DIRECTORY} / "tools" / "help" / name;
    if (std::getenv("FLATBACK_WRITE_HELP") != nullptr) std::ofstream{file} << text;
    std::ostringstream written;
    written << std::ifstream{file}.rdbuf();
    EXPECT_EQ(written.str(), text) << "write it anew: FLATBACK_WRITE_HELP=1 "
                                      "build/tests/machine/machine_tests --gtest_filter='HelpTexts.*'";
}

TEST(HelpTexts, AreThoseOfTheCommand) {
    const std::string all = help_of({});
    expect_same("machine.txt", all);
    std::istringstream lines{all.substr(all.find("Subcommands:"))};
    std::string line;
    std::getline(lines, line);
    while (std::getline(lines, line) && line.starts_with("  ")) {
        if (line[2] == ' ') continue;  // a description goes on
        const std::string name = line.substr(2, line.find(' ', 2) - 2);
        expect_same("machine/" + name + ".txt", help_of({name}));
    }
}

}  // namespace
}  // namespace flatback::machine::help_test
