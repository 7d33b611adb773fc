#include "guests/linux/arguments.hpp"

#include <gtest/gtest.h>

namespace flatback::guests {
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
}  // namespace flatback::guests
