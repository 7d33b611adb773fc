#include "metal/ground/options.hpp"

#include <gtest/gtest.h>

#include <optional>

namespace flatback::metal::options_test {
namespace {

TEST(L0CommandLine, EmptyGivesTheDefaults) {
    const auto options = parse_options("");
    ASSERT_TRUE(options);
    EXPECT_EQ(options->nested_vpid, NestedVpid::mapped);
    EXPECT_TRUE(options->shadow_vmcs);
    EXPECT_TRUE(options->hypervisor);
    EXPECT_FALSE(options->trace);
    EXPECT_FALSE(options->second_vm);
    EXPECT_FALSE(options->demands);
    EXPECT_FALSE(options->x2apic);
    EXPECT_EQ(options->apicv, std::nullopt);
    EXPECT_EQ(options->hlt_state, std::nullopt);
    EXPECT_FALSE(options->uefi_runtime);
    EXPECT_TRUE(options->vpid);
    EXPECT_TRUE(options->huge_pages);
    EXPECT_EQ(options->log, LogLevel::info);
    EXPECT_EQ(options->console, Console::both);
}

TEST(L0CommandLine, EveryOptionIsTaken) {
    const auto options = parse_options(
        "nested-vpid=single  shadow-vmcs=off\thypervisor=off log=debug trace=on vm2=on uefi-runtime=on "
        "demands=on x2apic=on apicv=off hlt-state=off "
        "vpid=off "
        "huge-pages=off "
        "console=screen");
    ASSERT_TRUE(options);
    EXPECT_EQ(options->nested_vpid, NestedVpid::single);
    EXPECT_FALSE(options->shadow_vmcs);
    EXPECT_FALSE(options->hypervisor);
    EXPECT_TRUE(options->trace);
    EXPECT_TRUE(options->second_vm);
    EXPECT_TRUE(options->demands);
    EXPECT_TRUE(options->x2apic);
    EXPECT_EQ(options->apicv, false);
    EXPECT_EQ(options->hlt_state, false);
    EXPECT_TRUE(options->uefi_runtime);
    EXPECT_FALSE(options->vpid);
    EXPECT_FALSE(options->huge_pages);
    EXPECT_EQ(options->log, LogLevel::debug);
    EXPECT_EQ(options->console, Console::screen);
}

TEST(L0CommandLine, TheLastWordWins) {
    const auto options = parse_options("nested-vpid=single nested-vpid=off log=debug log=quiet");
    ASSERT_TRUE(options);
    EXPECT_EQ(options->nested_vpid, NestedVpid::off);
    EXPECT_EQ(options->log, LogLevel::quiet);
}

TEST(L0CommandLine, AnUnknownWordIsRefusedByName) {
    for (const std::string_view word :
         {"nested-vpid=maped", "log", "log=", "nested-vpid=mapped,log=info", "x"}) {
        const std::string line = "log=info " + std::string(word) + " shadow-vmcs=on";
        const auto options = parse_options(line);
        ASSERT_FALSE(options) << word;
        EXPECT_EQ(options.error().word, word);
    }
}

TEST(L0CommandLine, TheRefusalListsEveryOptionThatParses) {
    std::string_view rest = valid_options;
    unsigned parsed = 0;
    while (!rest.empty()) {
        const std::string_view group = rest.substr(0, rest.find(' '));
        rest.remove_prefix(std::min(rest.size(), group.size() + 1));
        const std::string name{group.substr(0, group.find('=') + 1)};
        std::string_view values = group.substr(name.size());
        while (!values.empty()) {
            const std::string_view value = values.substr(0, values.find('|'));
            values.remove_prefix(std::min(values.size(), value.size() + 1));
            const std::string word = name + (value == "N" ? "17" : std::string(value));
            EXPECT_TRUE(parse_options(word)) << word;
            ++parsed;
        }
    }
    EXPECT_EQ(parsed, 33u);  // 3 + 2 + 2 + 2 + 2 + 1 + 2 + 2 + 2 + 2 + 2 + 2 + 2 + 3 + 4 values
}

TEST(L0CommandLine, ProcessorsAreAllButForANumber) {
    EXPECT_EQ(parse_options("")->processors, 0u);
    EXPECT_EQ(parse_options("cpus=1")->processors, 1u);
    EXPECT_EQ(parse_options("cpus=64")->processors, 64u);
    for (const std::string_view word : {"cpus=", "cpus=0", "cpus=-1", "cpus=2x", "cpus=all", "cpus=99999"})
        EXPECT_FALSE(parse_options(word)) << word;
}

}  // namespace
}  // namespace flatback::metal::options_test
