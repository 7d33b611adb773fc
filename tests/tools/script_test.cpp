// The script at the root, with a PATH whose apt-get, cmake and ninja tell that they were called, and fail.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "tools/command/command_line.hpp"
#include "tools/ground/child_process.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/temporary_directory.hpp"

namespace flatback::tools::script_test {
namespace {

namespace fs = std::filesystem;

const fs::path source{FLATBACK_SOURCE_DIRECTORY};

std::string contents(const fs::path& file) {
    std::ostringstream text;
    text << std::ifstream{file}.rdbuf();
    return text.str();
}

struct Script : testing::Test {
    TemporaryDirectory directory = *TemporaryDirectory::create();
    fs::path programs = directory.path() / "bin";
    fs::path called = directory.path() / "called";
    fs::path build = directory.path() / "a build";

    Script() {
        fs::create_directory(programs);
        for (const char* name : {"apt-get", "sudo", "cmake", "ninja"})
            program(name, fmt::format("echo {} \"$@\" >>'{}'\nexit 1\n", name, called.string()));
    }

    void program(const std::string& name, const std::string& lines) const {
        const fs::path file = programs / name;
        std::ofstream{file} << "#!/bin/sh\n" << lines;
        fs::permissions(file, fs::perms::owner_all);
    }

    [[nodiscard]] Finished run(const std::vector<std::string>& arguments) const {
        CommandLine command;
        command.arguments = {(source / "flatback").string()};
        command.arguments.insert(command.arguments.end(), arguments.begin(), arguments.end());
        command.environment = {fmt::format("PATH={}:{}", programs.string(), std::getenv("PATH")),
                               fmt::format("FLATBACK_BUILD={}", build.string())};
        return *run_to_end(std::move(command), std::chrono::seconds{60});
    }

    // Answers without a build: its status, and what it printed.
    void expect_words(const std::vector<std::string>& arguments, int status, const std::string& text) const {
        const Finished finished = run(arguments);
        EXPECT_EQ(finished.status, status) << fmt::format("{}", fmt::join(arguments, " "));
        EXPECT_NE(finished.output.find(text), std::string::npos) << finished.output;
        EXPECT_FALSE(fs::exists(called)) << contents(called);
        EXPECT_FALSE(fs::exists(build));
    }
};

TEST_F(Script, HelpOfEveryCommandNeedsNoBuild) {
    std::size_t count = 0;
    for (const auto& entry : fs::recursive_directory_iterator{source / "tools" / "help"}) {
        if (entry.is_directory()) continue;
        ++count;
        const fs::path name = fs::relative(entry.path(), source / "tools" / "help").replace_extension();
        std::vector<std::string> words;
        for (const fs::path& part : name)
            if (part != "flatback") words.push_back(part);
        for (const char* option : {"--help", "-h"}) {
            words.emplace_back(option);
            const Finished finished = run(words);
            EXPECT_EQ(finished.output, contents(entry.path()));
            EXPECT_EQ(finished.status, 0);
            words.pop_back();
        }
        words.emplace_back("--version");
        EXPECT_TRUE(run(words).output.starts_with("flatback ")) << name;
    }
    EXPECT_GT(count, 10U);
    expect_words({"run", "--l1", "kernel", "--help"}, 0, "--l0-cmdline");
    expect_words({"machine"}, 2, "mutants");
    expect_words({}, 2, "machine");
}

TEST_F(Script, TheVersionIsTheCommands) {
    std::string name = "flatback";
    std::string option = "--version";
    std::vector<char*> arguments{name.data(), option.data()};
    EXPECT_EQ(run({"--version"}).output, std::get<Information>(*parse_command_line(arguments)).text);
}

TEST_F(Script, WhatDoesNotExistIsNamedWithTheNearestBeforeAnythingIsBuilt) {
    expect_words({"tset"}, 2, "there is no command 'flatback tset'; did you mean test?");
    expect_words({"benchmark"}, 2, "did you mean bench?");
    expect_words({"flatback"}, 2, "there is no command");
    expect_words({"machine/run"}, 2, "there is no command");
    expect_words({"xyzzy"}, 2, "there is no command 'flatback xyzzy' (flatback --help lists all)");
    expect_words({"machine", "explroe"}, 2, "'flatback machine explroe'; did you mean explore?");
    expect_words({"run", "--memroy", "5"}, 2, "flatback run has no option --memroy; did you mean --memory?");
    expect_words({"--jsn"}, 2, "no option --jsn");
}

TEST_F(Script, AValueIsNoOption) {
    // They get past the words, to the packages or the build.
    for (const std::vector<std::string>& arguments :
         {std::vector<std::string>{"run", "--l1", "k", "--cmdline", "--help"},
          {"run", "--l1", "k", "--cmdline=--help"},
          {"run", "--l1", "k", "--cmdline", "--nosmp"}}) {
        const Finished finished = run(arguments);
        EXPECT_NE(finished.status, 0);
        EXPECT_TRUE(fs::exists(called)) << finished.output;
        fs::remove(called);
    }
}

TEST_F(Script, BuildsWhereFlatbackBuildSays) {
    program("dpkg-query", fmt::format("sed 's/[:[:space:]].*//; s/$/ ii /' '{}'/tools/debian-packages*.txt\n",
                                      source.string()));
    program("cmake", fmt::format("echo cmake \"$@\" >>'{}'\n: >\"$4/build.ninja\"\n", called.string()));
    program("ninja", fmt::format("echo ninja \"$@\" >>'{}'\n", called.string()));
    fs::create_directories(build / "tools");
    fs::copy_file("/bin/echo", build / "tools" / "flatback");
    const Finished finished = run({"trace", "--modes", "a b"});
    EXPECT_EQ(finished.status, 0);
    EXPECT_TRUE(finished.output.ends_with("\ntrace --modes a b\n")) << finished.output;
    const std::string calls = contents(called);
    EXPECT_NE(calls.find(fmt::format("cmake -S {} -B {} -G Ninja\n", source.string(), build.string())),
              std::string::npos)
        << calls;
    EXPECT_NE(calls.find(fmt::format("ninja -C {} ", build.string())), std::string::npos) << calls;
}

TEST_F(Script, ABuildThatCannotBeThereIsSaidBeforeAnythingIsInstalled) {
    build = "/proc/flatback";
    const Finished finished = run({"run"});
    EXPECT_EQ(finished.status, 5);
    EXPECT_NE(finished.output.find("FLATBACK_BUILD"), std::string::npos) << finished.output;
    EXPECT_FALSE(fs::exists(called));

    build = directory.path() / "other";
    fs::create_directory(build);
    std::ofstream{build / "CMakeCache.txt"} << "CMAKE_HOME_DIRECTORY:INTERNAL=/another/checkout\n";
    const Finished other = run({"run"});
    EXPECT_EQ(other.status, 5);
    EXPECT_NE(other.output.find("/another/checkout"), std::string::npos) << other.output;
    EXPECT_FALSE(fs::exists(called));
}

TEST_F(Script, CleanRemovesABuildOfFlatbacksAndNothingElse) {
    fs::create_directories(build / "cache");
    std::ofstream{build / "cache" / "file"} << std::string(3 << 20, 'x');
    const Finished refused = run({"clean"});
    EXPECT_EQ(refused.status, 2) << refused.output;
    EXPECT_TRUE(fs::exists(build));

    std::ofstream{build / "CMakeCache.txt"} << "CMAKE_PROJECT_NAME:STATIC=flatback\n";
    std::ofstream{build / "installed-packages"} << "bochs\nfoo\n";
    const Finished removed = run({"clean"});
    EXPECT_EQ(removed.status, 0);
    EXPECT_NE(removed.output.find(": 3 MB"), std::string::npos) << removed.output;
    EXPECT_NE(removed.output.find("apt-get remove bochs foo"), std::string::npos) << removed.output;
    EXPECT_FALSE(fs::exists(build));
    EXPECT_EQ(run({"clean"}).status, 0);
}

// The options of every help text.
std::set<std::string> all_options() {
    std::set<std::string> options;
    const std::regex option{"^  (?:-[a-zA-Z],)?(--[a-z0-9-]+).*"};
    for (const auto& entry : fs::recursive_directory_iterator{source / "tools" / "help"}) {
        if (entry.is_directory()) continue;
        std::istringstream lines{contents(entry.path())};
        std::smatch match;
        for (std::string line; std::getline(lines, line);)
            if (std::regex_match(line, match, option)) options.insert(match[1]);
    }
    return options;
}

TEST(ManualPage, HasEveryOptionAndNoOther) {
    std::string page = contents(source / "tools" / "flatback.1");
    page = std::regex_replace(page, std::regex{R"(\\f[A-Z])"}, "");  // changes of the font
    std::erase(page, '\\');
    std::set<std::string> named;
    const std::regex option{"--[a-z0-9-]+"};
    for (std::sregex_iterator match{page.begin(), page.end(), option}; match != std::sregex_iterator{};
         ++match)
        named.insert(match->str());
    EXPECT_EQ(named, all_options());
}

std::string completed(const std::string& words) {
    CommandLine command;
    command.arguments = {
        "bash", "-c",
        fmt::format(". {}/tools/completion/flatback.bash; COMP_WORDS=(./flatback {}); "
                    "COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _flatback; echo \"${{COMPREPLY[*]}}\"",
                    source.string(), words)};
    return run_to_end(std::move(command), std::chrono::seconds{60})->output;
}

TEST(Completion, OffersWhatTheHelpTextsName) {
    EXPECT_EQ(completed("ben"), "bench\n");
    EXPECT_EQ(completed("machine ex"), "explore\n");
    EXPECT_EQ(completed("run --l0"), "--l0-cmdline\n");
    EXPECT_EQ(completed("report --processor sky"), "skylake-x\n");
    EXPECT_EQ(completed("machine explore --pol"), "--policy\n");
    EXPECT_NE(completed("''").find("machine"), std::string::npos);
}

}  // namespace
}  // namespace flatback::tools::script_test
