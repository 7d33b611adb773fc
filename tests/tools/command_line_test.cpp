#include "tools/command/command_line.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <vector>

namespace flatback::tools::command_line_test {
namespace {

Result<Command> parse(std::initializer_list<const char*> words) {
    std::vector<char*> arguments{const_cast<char*>("flatback")};
    for (const char* word : words) arguments.push_back(const_cast<char*>(word));
    return parse_command_line(arguments);
}

std::string error_of(std::initializer_list<const char*> words) {
    const auto command = parse(words);
    if (command.has_value()) return "accepted";
    EXPECT_EQ(command.error().status, ExitStatus::usage);
    return command.error().message;
}

TEST(CommandLine, WrongArgumentsGetOneLine) {
    for (const std::string& message :
         {error_of({}), error_of({"boot"}), error_of({"run", "--l1"}), error_of({"run", "--bogus"}),
          error_of({"run", "--l1", "k", "--memory", "63"}),
          error_of({"run", "--l1", "k", "--memory", "many"}),
          error_of({"run", "--l1", "k", "--timeout", "0"}), error_of({"run", "--l1", "k", "--timeout", "-5"}),
          error_of({"run", "--l1", "k", "extra"}), error_of({"test", "--l1", "k"})}) {
        EXPECT_NE(message, "accepted");
        EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    }
}

TEST(CommandLine, RandomL1sHaveASeedAndATime) {
    const auto command = parse({"test", "--random", "2", "--seed", "7", "--l0", "old.elf"});
    ASSERT_TRUE(command.has_value());
    const auto& options = std::get<TestOptions>(*command);
    ASSERT_TRUE(options.random.has_value());
    EXPECT_EQ(options.random->time, std::chrono::minutes{2});
    EXPECT_EQ(options.random->seed, 7U);
    EXPECT_EQ(options.random->l0, "old.elf");
    EXPECT_FALSE(std::get<TestOptions>(*parse({"test"})).random.has_value());
    EXPECT_NE(error_of({"test", "--seed", "7"}).find("--random"), std::string::npos);
}

TEST(CommandLine, WhatBelongsToAGuestNeedsAGuest) {
    EXPECT_NE(error_of({"run", "--module", "m"}).find("--l1"), std::string::npos);
    EXPECT_NE(error_of({"run", "--cmdline", "x"}).find("--l1"), std::string::npos);
    EXPECT_NE(error_of({"run", "--direct"}).find("--l1"), std::string::npos);
}

TEST(CommandLine, WatchHasOneRunAMode) {
    const auto modes_of = [](std::initializer_list<const char*> words) {
        return std::get<WatchOptions>(*parse(words)).request.modes;
    };
    EXPECT_EQ(modes_of({"watch"}), (std::vector<std::string>{"mapped", "single", "off", "ept0"}));
    EXPECT_EQ(modes_of({"watch", "--guest", "bare"}), (std::vector<std::string>{"mapped", "single", "off"}));
    EXPECT_EQ(modes_of({"watch", "--mode", "off,mapped,off"}), (std::vector<std::string>{"mapped", "off"}));
    EXPECT_EQ(std::get<WatchOptions>(*parse({"watch", "text", "--vmcs01", "0x3df1b000"})).vmcs01,
              0x3DF1B000U);
    EXPECT_EQ(modes_of({"watch", "--guest", "boot"}),
              (std::vector<std::string>{"mapped", "single", "off", "ept0"}));
    EXPECT_EQ(std::get<WatchOptions>(*parse({"watch", "--guest", "boot"})).request.guest,
              WatchedGuest::linux_boot);
    EXPECT_EQ(std::get<WatchOptions>(*parse({"watch", "--guest", "probes"})).request.guest,
              WatchedGuest::probes);
    EXPECT_EQ(std::get<WatchOptions>(*parse({"watch", "--clock", "100"})).request.clock_mhz, 100U);
    EXPECT_NE(error_of({"watch", "--guest", "bare", "--clock", "100"}).find("--clock"), std::string::npos);
    EXPECT_NE(error_of({"watch", "--clock", "99"}), "accepted");
    EXPECT_NE(error_of({"watch", "--guest", "bare", "--mode", "ept0"}).find("ept0"), std::string::npos);
    EXPECT_NE(error_of({"watch", "--mode", "shared"}), "accepted");
    EXPECT_NE(error_of({"watch", "text", "--mode", "off"}), "accepted");
    EXPECT_NE(error_of({"watch", "text", "--vmcs01", "none"}), "accepted");
    EXPECT_NE(error_of({"watch", "--vmcs01", "0x1"}), "accepted");
}

TEST(CommandLine, AGuestWithEverything) {
    const auto command = parse({"run", "--l1", "kernel", "--module", "a", "--module", "b text", "--cmdline",
                                "-x --y z", "--l0-cmdline", "nested-vpid=off", "--memory", "512", "--timeout",
                                "7", "--serial", "s", "--json", "j"});
    ASSERT_TRUE(command.has_value()) << command.error().message;
    const auto& options = std::get<BootOptions>(*command);
    EXPECT_EQ(options.guest, "kernel");
    EXPECT_EQ(options.modules, (std::vector<std::string>{"a", "b text"}));
    EXPECT_EQ(options.guest_command_line, "-x --y z");
    EXPECT_EQ(options.l0_command_line, "nested-vpid=off");
    EXPECT_EQ(options.memory, 512U);
    EXPECT_EQ(options.limit.count(), 7);
    EXPECT_EQ(options.serial_file, "s");
    EXPECT_EQ(options.json_file, "j");
    EXPECT_FALSE(options.direct);
}

TEST(CommandLine, RunTakesAMachineOfAnotherKind) {
    const auto command =
        parse({"run", "--l1", "k", "--cpu", "corei7_haswell_4770", "--cpus", "2", "--disk", "d"});
    ASSERT_TRUE(command.has_value()) << command.error().message;
    const auto& options = std::get<BootOptions>(*command);
    EXPECT_EQ(options.processor, "corei7_haswell_4770");
    EXPECT_EQ(options.processors, 2U);
    EXPECT_EQ(options.disk, "d");
    EXPECT_NE(error_of({"run", "--l1", "k", "--cpu", "pentium"}), "accepted");
    EXPECT_NE(error_of({"run", "--l1", "k", "--cpus", "0"}), "accepted");
}

TEST(CommandLine, RunWithoutAGuestIsTheWholeStack) {
    const auto command = parse({"run", "--json", "j"});
    ASSERT_TRUE(command.has_value());
    EXPECT_EQ(std::get<StackOptions>(*command).json_file, "j");
    EXPECT_EQ(std::get<StackOptions>(*command).processors, 1U);
    const auto several = parse({"run", "--cpus", "4"});
    ASSERT_TRUE(several.has_value());
    EXPECT_EQ(std::get<StackOptions>(*several).processors, 4U);
    EXPECT_NE(error_of({"run", "--cpus", "9"}), "accepted");
}

TEST(CommandLine, DepthIsMeasuredOrIsBeneathAKernel) {
    const auto stack = parse({"run", "--depth", "3"});
    ASSERT_TRUE(stack.has_value());
    EXPECT_EQ(std::get<StackOptions>(*stack).depth, 3U);
    EXPECT_EQ(std::get<StackOptions>(*stack).limit, std::chrono::hours{1});
    EXPECT_EQ(std::get<StackOptions>(*parse({"run"})).depth, std::nullopt);
    const auto boot = parse({"run", "--l1", "k", "--depth", "2"});
    ASSERT_TRUE(boot.has_value());
    EXPECT_EQ(std::get<BootOptions>(*boot).depth, 2U);
    const auto above = parse({"run", "--beneath", "kvm"});
    ASSERT_TRUE(above && std::holds_alternative<StackOptions>(*above));
    EXPECT_TRUE(std::get<StackOptions>(*above).above_kvm);
    EXPECT_FALSE(std::get<StackOptions>(*stack).above_kvm);
    EXPECT_NE(error_of({"run", "--beneath", "xen"}), "accepted");
    EXPECT_NE(error_of({"run", "--beneath", "kvm", "--depth", "2"}), "accepted");
    EXPECT_NE(error_of({"run", "--beneath", "kvm", "--l1", "k", "--direct"}), "accepted");
    const auto own = parse({"run", "--beneath", "kvm", "--l1", "k"});
    ASSERT_TRUE(own.has_value()) << own.error().message;
    EXPECT_TRUE(std::get<BootOptions>(*own).above_kvm);
    EXPECT_FALSE(std::get<BootOptions>(*parse({"run", "--l1", "k"})).above_kvm);
    EXPECT_NE(error_of({"run", "--depth", "0"}), "accepted");
    EXPECT_NE(error_of({"run", "--depth", "5"}), "accepted");
    EXPECT_NE(error_of({"run", "--l1", "k", "--depth", "2", "--direct"}), "accepted");
}

TEST(CommandLine, AReportIsMadeFromAtLeastOneFile) {
    const auto command = parse({"report", "--bench", "b", "--processor", "haswell", "--output", "o"});
    ASSERT_TRUE(command.has_value()) << command.error().message;
    const auto& options = std::get<ReportOptions>(*command);
    EXPECT_EQ(options.bench, "b");
    EXPECT_EQ(options.trace, std::nullopt);
    EXPECT_EQ(options.processor, "haswell");
    EXPECT_EQ(options.output, "o");
    EXPECT_NE(error_of({"report", "--output", "o"}).find("--bench"), std::string::npos);
    EXPECT_NE(error_of({"report", "--bench", "b"}).find("--output"), std::string::npos);
    EXPECT_NE(error_of({"report", "--bench", "b", "--output", "o", "--processor", "z80"}), "accepted");
}

TEST(CommandLine, ATraceOfARunOrOfAFile) {
    const auto run = parse({"trace", "--modes", "mapped,off", "--last", "9"});
    ASSERT_TRUE(run.has_value()) << run.error().message;
    const auto& options = std::get<TraceOptions>(*run);
    EXPECT_EQ(options.modes, (std::vector<std::string>{"mapped", "off"}));
    EXPECT_EQ(options.last, 9U);
    EXPECT_FALSE(options.file);
    const auto file =
        parse({"trace", "f", "--window", "1:2", "--json", "j", "--perfetto", "p", "--tsc-khz", "5"});
    ASSERT_TRUE(file.has_value()) << file.error().message;
    EXPECT_EQ(std::get<TraceOptions>(*file).file, "f");
    EXPECT_EQ(std::get<TraceOptions>(*file).tsc_khz, 5U);

    EXPECT_NE(error_of({"trace", "--modes", "mapped,best"}), "accepted");
    EXPECT_NE(error_of({"trace", "--modes", "mapped,off", "--json", "j"}), "accepted");
    EXPECT_NE(error_of({"trace", "--window", "2:1"}), "accepted");
    EXPECT_NE(error_of({"trace", "--window", "1:2", "--last", "3"}), "accepted");
    EXPECT_NE(error_of({"trace", "f", "--modes", "off"}), "accepted");
    // It would become words of the kernel's command line.
    EXPECT_NE(error_of({"trace", "--payloads", "l2_cpuid init=/bin/sh"}), "accepted");
    EXPECT_NE(error_of({"trace", "--payloads", "l2_cpuid;reboot"}), "accepted");
}

TEST(CommandLine, BenchTakesOnePeer) {
    const auto alone = parse({"bench"});
    ASSERT_TRUE(alone.has_value());
    EXPECT_FALSE(std::get<BenchOptions>(*alone).with_kvm);
    EXPECT_EQ(std::get<BenchOptions>(*alone).processors, 1U);
    const auto several = parse({"bench", "--peer", "kvm", "--cpus", "2"});
    ASSERT_TRUE(several.has_value()) << several.error().message;
    EXPECT_EQ(std::get<BenchOptions>(*several).processors, 2U);
    const auto with_peer =
        parse({"bench", "--peer", "kvm", "--json", "j", "--timeout", "60", "--only", "ept=0"});
    ASSERT_TRUE(with_peer.has_value()) << with_peer.error().message;
    const auto& options = std::get<BenchOptions>(*with_peer);
    EXPECT_TRUE(options.with_kvm);
    EXPECT_EQ(options.json_file, "j");
    EXPECT_EQ(options.limit.count(), 60);
    EXPECT_EQ(options.only, "ept=0");
    for (const std::string& message :
         {error_of({"bench", "--peer", "xen"}), error_of({"bench", "--peer"}),
          error_of({"bench", "--timeout", "0"}), error_of({"bench", "--cpus", "2"}),
          error_of({"bench", "--peer", "kvm", "--cpus", "9"}), error_of({"bench", "--l1", "k"}),
          error_of({"bench", "kvm"})}) {
        EXPECT_NE(message, "accepted");
    }
}

TEST(CommandLine, HelpAndVersionAreNoErrors) {
    for (const char* option : {"--help", "--version"}) {
        const auto command = parse({option});
        ASSERT_TRUE(command.has_value());
        EXPECT_FALSE(std::get<Information>(*command).text.empty());
    }
    EXPECT_NE(std::get<Information>(*parse({"run", "--help"})).text.find("--l0-cmdline"), std::string::npos);
}

TEST(CommandLine, TheMachinesArgumentsAreItsOwn) {
    const auto command = parse({"machine", "explore", "--help", "--bogus"});
    ASSERT_TRUE(command.has_value());
    EXPECT_EQ(std::get<MachineOptions>(*command).arguments,
              (std::vector<std::string>{"explore", "--help", "--bogus"}));
}

TEST(CommandLine, DocsAndCleanAreTheScripts) {
    EXPECT_NE(error_of({"docs"}).find("./flatback"), std::string::npos);
    EXPECT_NE(error_of({"clean"}).find("./flatback"), std::string::npos);
}

TEST(CommandLine, ConformTakesWhatIsCheckedAndWhereTheResultsGo) {
    const auto parsed =
        parse({"conform", "--under", "kvm", "--only", "stale*", "--no-costs", "--json", "j", "--junit", "x"});
    ASSERT_TRUE(parsed);
    const auto& options = std::get<ConformOptions>(*parsed);
    EXPECT_EQ(options.under, "kvm");
    EXPECT_EQ(error_of({"conform", "--under", "xen", "--only", "stale*"}), "accepted");
    EXPECT_EQ(options.only, "stale*");
    EXPECT_FALSE(options.costs);
    EXPECT_EQ(options.json_file, "j");
    EXPECT_EQ(options.junit_file, "x");
    EXPECT_NE(error_of({"conform", "--under", "hyper-v"}), "accepted");
    EXPECT_NE(error_of({"conform", "--only", "a b"}), "accepted");
    EXPECT_NE(error_of({"conform", "--under", "kvm", "--l0-cmdline", "trace=on"}), "accepted");
    EXPECT_NE(error_of({"conform", "--l0-cmdline", "colour=red"}), "accepted");
    EXPECT_NE(error_of({"conform", "--json", "j", "--junit", "j"}), "accepted");
}

TEST(CommandLine, ConformTakesAnImageWhoseWordsAreItsOwn) {
    const std::string file = std::filesystem::path{testing::TempDir()} / "hypervisor.iso";
    std::ofstream(file) << "x";
    const auto parsed = parse({"conform", "--under", file.c_str(), "--memory", "512", "--cpu", "tigerlake"});
    ASSERT_TRUE(parsed) << parsed.error().message;
    const auto& options = std::get<ConformOptions>(*parsed);
    EXPECT_EQ(options.under, "image");
    EXPECT_EQ(options.image, file);
    EXPECT_EQ(options.memory, 512U);
    EXPECT_EQ(options.processor, "tigerlake");
    EXPECT_NE(error_of({"conform", "--under", file.c_str(), "--only", "stale*"}), "accepted");
    EXPECT_NE(error_of({"conform", "--under", file.c_str(), "--no-costs"}), "accepted");
    EXPECT_NE(error_of({"conform", "--under", file.c_str(), "--l0-cmdline", "trace=on"}), "accepted");
    EXPECT_NE(error_of({"conform", "--memory", "512"}), "accepted");
    EXPECT_NE(error_of({"conform", "--cpu", "z80"}), "accepted");
}

TEST(CommandLine, ReportTakesWindowsAndSeveralRunsOfConforms) {
    const auto parsed =
        parse({"report", "--watch", "w", "--conform", "a", "--conform", "b", "--output", "o"});
    ASSERT_TRUE(parsed) << parsed.error().message;
    const auto& options = std::get<ReportOptions>(*parsed);
    EXPECT_EQ(options.watch, "w");
    EXPECT_EQ(options.conform, (std::vector<std::string>{"a", "b"}));
    EXPECT_NE(error_of({"report", "--output", "o"}).find("--watch"), std::string::npos);
}

TEST(CommandLine, RunKeepsTheScreenAndATrace) {
    const auto parsed = parse({"run", "--l1", "k", "--screen", "s.png", "--trace", "t.txt"});
    ASSERT_TRUE(parsed) << parsed.error().message;
    const auto& options = std::get<BootOptions>(*parsed);
    EXPECT_EQ(options.screen_file, "s.png");
    EXPECT_EQ(options.trace_file, "t.txt");
    EXPECT_NE(error_of({"run", "--screen", "s.png"}), "accepted");
    EXPECT_NE(error_of({"run", "--l1", "k", "--debug", "--trace", "t"}), "accepted");
}

TEST(CommandLine, ImageTakesAnL1AndTheMenusWords) {
    const auto parsed =
        parse({"image", "--output", "o", "--l1", "k", "--module", "m", "--module", "n t", "--cmdline", "c",
               "--l0-cmdline", "trace=on", "--linux", "--first", "linux", "--menu-seconds", "0"});
    ASSERT_TRUE(parsed) << parsed.error().message;
    const auto& options = std::get<ImageOptions>(*parsed);
    EXPECT_EQ(options.output, "o");
    EXPECT_EQ(options.guest, "k");
    EXPECT_EQ(options.modules, (std::vector<std::string>{"m", "n t"}));
    EXPECT_EQ(options.guest_command_line, "c");
    EXPECT_EQ(options.l0_command_line, "trace=on");
    EXPECT_TRUE(options.with_linux);
    EXPECT_EQ(options.first, "linux");
    EXPECT_EQ(options.menu_seconds, 0U);
    const auto plain = parse({"image", "--output", "o"});
    ASSERT_TRUE(plain);
    EXPECT_FALSE(std::get<ImageOptions>(*plain).guest);
    EXPECT_NE(error_of({"image"}), "accepted");
    EXPECT_NE(error_of({"image", "--output", "o", "--module", "m"}), "accepted");
    EXPECT_NE(error_of({"image", "--output", "o", "--first", "xen"}), "accepted");
}

TEST(CommandLine, RunTakesTheGroundAndTheFirmware) {
    const auto parsed = parse({"run", "--l1", "k", "--on", "kvm", "--firmware", "uefi"});
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(std::get<BootOptions>(*parsed).on, Ground::kvm);
    EXPECT_EQ(std::get<BootOptions>(*parsed).firmware, Firmware::uefi);
    const auto tcg = parse({"run", "--l1", "k", "--on", "qemu-tcg"});
    ASSERT_TRUE(tcg);
    EXPECT_EQ(std::get<BootOptions>(*tcg).on, Ground::qemu_tcg);
    EXPECT_EQ(std::get<BootOptions>(*tcg).firmware, Firmware::bios);
    EXPECT_NE(error_of({"run", "--l1", "k", "--on", "xen"}), "accepted");
    EXPECT_NE(error_of({"run", "--l1", "k", "--on", "kvm", "--cpu", "ryzen"}), "accepted");
}

}  // namespace
}  // namespace flatback::tools::command_line_test
