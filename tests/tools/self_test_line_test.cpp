#include "tools/report/self_test_line.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

namespace flatback::tools::self_test_line_test {
namespace {

// As the bare L1 printed it (the checksum too): under Flatback, in the emulator.
constexpr std::string_view of_the_emulator =
    "FLATBACK1/0.1.0/00050654/INTEL-R-CORE-TM-I7-7800X-CPU-3-50GHZ/FLATBACKFLAT/0.0/"
    "99.124.161.1.1.202.228.284.291.291.291.217.255.568.268.23550.8432.956.1077.1145.989.1097.1064.1488.1134."
    "1401."
    "277.248.244.254.250.239.70.20.201.0.200.1362.315.1321.5239.32655.6798.50826.41610.99193/30D22860";

std::string with_checksum(std::string_view content) {
    return fmt::format("{}/{:08X}", content, interface::self_test_checksum(content));
}
std::string error_of(std::string_view text) {
    const auto lines = read_self_test_lines(text, "FILE");
    if (lines) return {};
    EXPECT_EQ(lines.error().status, ExitStatus::input_file);
    return lines.error().message;
}
std::optional<std::uint64_t> value(const SelfTestLine& line, std::string_view name) {
    for (std::size_t i = 0; i < interface::self_test_values.size(); ++i)
        if (interface::self_test_values.at(i) == name) return line.values.at(i);
    ADD_FAILURE() << name;
    return std::nullopt;
}

TEST(SelfTestLines, AreReadAsTheGuestWroteThem) {
    const auto lines = read_self_test_lines(of_the_emulator, "FILE");
    ASSERT_TRUE(lines) << lines.error().message;
    ASSERT_EQ(lines->size(), 1U);
    const SelfTestLine& line = lines->front();
    EXPECT_EQ(line.version, "0.1.0");
    EXPECT_EQ(line.signature, 0x50654U);
    EXPECT_EQ(line.processor, "INTEL-R-CORE-TM-I7-7800X-CPU-3-50GHZ");
    EXPECT_EQ(line.under, "FLATBACKFLAT");
    EXPECT_EQ(value(line, "l1_cpuid"), 99U);
    EXPECT_EQ(value(line, "l2_cpuid_reflected"), 1077U);
    EXPECT_EQ(value(line, "longest_msr_lists_at_exit"), 99193U);
}

TEST(SelfTestLines, MayBeTypedInSmallLettersAndBrokenAnywhere) {
    std::string typed = "as photographed:\n";
    for (std::size_t i = 0; i < of_the_emulator.size(); ++i) {
        typed += static_cast<char>(std::tolower(static_cast<unsigned char>(of_the_emulator[i])));
        if (i % 7 == 6) typed += i % 2 == 0 ? "\r\n  " : " ";
    }
    typed += "\nthank you\n";
    const auto lines = read_self_test_lines(typed, "FILE");
    ASSERT_TRUE(lines) << lines.error().message;
    EXPECT_EQ(value(lines->front(), "l2_cpuid_reflected"), 1077U);
}

TEST(SelfTestLines, OfSeveralMachinesStandInOneFile) {
    const std::string other = with_checksum("FLATBACK1/0.2.0/000306C3/A-PROCESSOR/NOTHING/512.1/101.-.99");
    const auto lines = read_self_test_lines(std::string{of_the_emulator} + "\n" + other, "FILE");
    ASSERT_TRUE(lines) << lines.error().message;
    ASSERT_EQ(lines->size(), 2U);
    EXPECT_EQ(lines->back().passed, 512U);
    EXPECT_EQ(lines->back().failed, 1U);
    EXPECT_EQ(value(lines->back(), "l1_vmcall"), std::nullopt) << "not measured there";
    EXPECT_EQ(value(lines->back(), "l1_rdmsr_vmx_basic"), 99U);
    EXPECT_EQ(value(lines->back(), "vmread"), std::nullopt) << "of an older Flatback";
}

TEST(SelfTestLines, AWrongCharacterAnywhereIsNoticed) {
    for (std::size_t i = interface::self_test_mark.size(); i < of_the_emulator.size(); ++i) {
        std::string wrong{of_the_emulator};
        wrong.at(i) = wrong.at(i) == '7' ? '1' : '7';
        EXPECT_NE(error_of(wrong), "") << i;
        std::string missing{of_the_emulator};
        missing.erase(i, 1);
        EXPECT_NE(error_of(missing), "") << i;
        if (i + 1 == of_the_emulator.size() || of_the_emulator[i] == of_the_emulator[i + 1]) continue;
        std::string swapped{of_the_emulator};
        std::swap(swapped.at(i), swapped.at(i + 1));
        EXPECT_NE(error_of(swapped), "") << i;
    }
    EXPECT_EQ(error_of(std::string{of_the_emulator.substr(0, 40)}),
              "FILE: self-test 1: it is cut short, or a '/' is missing");
    EXPECT_EQ(error_of("nothing"), "FILE: there is no line of a self-test in it (it begins with FLATBACK1/)");
}

TEST(SelfTestLines, AGoodChecksumMakesNothingElseGood) {
    std::string many = "FLATBACK1/0.1.0/00050654/P/N/1.0/1";
    for (std::size_t i = 0; i < interface::self_test_values.size(); ++i) many += ".1";
    for (const std::string& content :
         {std::string{"FLATBACK1/0.1.0/00050654/P/N/1/1"}, std::string{"FLATBACK1/0.1.0/X/P/N/1.0/1"},
          std::string{"FLATBACK1/0.1.0/00050654/P<B>/N/1.0/1"},
          std::string{"FLATBACK1/0.1.0/00050654/P//1.0/1"},
          std::string{"FLATBACK1/0.1.0/00050654/P/N/1.0/1..2"},
          std::string{"FLATBACK1/0.1.0/00050654/P/N/1.0/99999999999999"}, many})
        EXPECT_EQ(error_of(with_checksum(content)), "FILE: self-test 1: it is of another version of Flatback")
            << content;
}

}  // namespace
}  // namespace flatback::tools::self_test_line_test
