// The faults that are planted on purpose (docs/random.md, conformance.md, watch.md): each still changes the
// sources that it is about.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <utility>

#include "tools/ground/child_process.hpp"

namespace flatback::tools::planted_faults_test {
namespace {

TEST(PlantedFaults, ApplyToTheSourcesAsTheyAre) {
    if (!program_exists("git")) GTEST_SKIP() << "git, which knows whether a patch applies, is not installed";
    const std::filesystem::path source{FLATBACK_SOURCE_DIRECTORY};
    unsigned patches = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator{source / "tests"}) {
        if (entry.path().extension() != ".patch") continue;
        ++patches;
        CommandLine command;
        command.directory = source;
        command.arguments = {"git", "apply", "--check", entry.path().string()};
        const auto finished = run_to_end(std::move(command), std::chrono::seconds{60});
        ASSERT_TRUE(finished.has_value());
        EXPECT_EQ(finished->status, 0) << finished->output;
    }
    EXPECT_GT(patches, 10U);
}

}  // namespace
}  // namespace flatback::tools::planted_faults_test
