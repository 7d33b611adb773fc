#include "guests/linux/arguments.hpp"

#include <gtest/gtest.h>

namespace flatback::guests::arguments_test {
namespace {

std::expected<Arguments, std::string> parse(std::vector<std::string_view> words) {
    return parse_arguments(words);
}

TEST(Arguments, WithoutAnyAllPayloadsRunInOrder) {
    const auto arguments = parse({});
    ASSERT_TRUE(arguments);
    EXPECT_EQ(arguments->action, Arguments::Action::run);
    ASSERT_EQ(arguments->payloads.size(), all_payloads().size());
    for (std::size_t i = 0; i < all_payloads().size(); ++i) {
        EXPECT_EQ(arguments->payloads[i], all_payloads()[i].id);
    }
}

TEST(Arguments, NamedPayloadsRunAloneAndInTheOrderGiven) {
    const auto arguments = parse({"--payload", "l2_hlt", "--payload", "l2_cpuid"});
    ASSERT_TRUE(arguments);
    EXPECT_EQ(arguments->payloads, (std::vector{PayloadId::halt, PayloadId::cpuid}));
}

TEST(Arguments, PowerOffAndHelpAreActionsOfTheirOwn) {
    EXPECT_EQ(parse({"--power-off"})->action, Arguments::Action::power_off);
    EXPECT_EQ(parse({"--help"})->action, Arguments::Action::help);
}

TEST(Arguments, ALinuxAsL2HasItsOwnOptions) {
    const auto arguments =
        parse({"--linux", "k", "--initramfs", "i", "--cmdline", "quiet end=record", "--memory", "256",
               "--counters", "cpuid", "--boot-key", "boot.l2", "--mark", "100"});
    ASSERT_TRUE(arguments) << arguments.error();
    EXPECT_EQ(arguments->action, Arguments::Action::boot_linux);
    EXPECT_EQ(arguments->linux_guest.kernel, "k");
    EXPECT_EQ(arguments->linux_guest.initramfs, "i");
    EXPECT_EQ(arguments->linux_guest.command_line, "quiet end=record");
    EXPECT_EQ(arguments->linux_guest.memory_megabytes, 256U);
    EXPECT_EQ(arguments->counters, "cpuid");
    EXPECT_EQ(arguments->boot_key, "boot.l2");
    EXPECT_EQ(arguments->linux_guest.exits_a_mark, 100U);
    EXPECT_EQ(parse({"--linux", "k"})->linux_guest.exits_a_mark, 0U);
    EXPECT_EQ(parse({"--linux", "k", "--memory", "63"}).error(),
              "--memory takes a number from 64 to 3072, not '63'");
    EXPECT_EQ(parse({"--linux"}).error(), "--linux needs a kernel's file");
}

TEST(Arguments, ALinuxInTheMachinesPlaceNeedsAnInitramfs) {
    const auto arguments = parse({"--kexec", "k", "--initramfs", "i", "--cmdline", "quiet"});
    ASSERT_TRUE(arguments) << arguments.error();
    EXPECT_EQ(arguments->action, Arguments::Action::kexec);
    EXPECT_EQ(arguments->linux_guest.kernel, "k");
    EXPECT_EQ(parse({"--kexec", "k"}).error(), "--kexec needs --initramfs FILE");
}

TEST(Arguments, AServerOfCountersNeedsBothEndsAndASource) {
    const auto arguments = parse({"--serve-counters", "in", "out", "--counters", "line:/dev/ttyS1"});
    ASSERT_TRUE(arguments) << arguments.error();
    EXPECT_EQ(arguments->action, Arguments::Action::serve_counters);
    EXPECT_EQ(arguments->input, "in");
    EXPECT_EQ(arguments->output, "out");
    EXPECT_EQ(parse({"--serve-counters", "in"}).error(), "--serve-counters needs two files");
    EXPECT_EQ(parse({"--serve-counters", "in", "out"}).error(), "--serve-counters needs --counters SOURCE");
    EXPECT_EQ(parse({"--console", "1234"})->start, 1234U);
}

TEST(Arguments, MistakesAreToldInOneLine) {
    EXPECT_EQ(parse({"--payload"}).error(), "--payload needs a name");
    EXPECT_EQ(parse({"--payload", "l3"}).error(), "no payload is called 'l3'");
    EXPECT_EQ(parse({"--fast"}).error(), "unknown argument '--fast'");
}

TEST(Arguments, TheUsageNamesEveryPayload) {
    for (const Payload& each : all_payloads()) {
        EXPECT_NE(usage().find(each.name), std::string::npos) << each.name;
    }
}

}  // namespace
}  // namespace flatback::guests::arguments_test
