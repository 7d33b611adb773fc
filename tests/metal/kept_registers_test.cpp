// What a guest's write does to registers in memory that L0 keeps.
#include "metal/firmware/kept_registers.hpp"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace flatback::metal::kept_registers_test {
namespace {

using Answer = KeptRegisters::Answer;

constexpr std::uint64_t pm1_second_byte = 0xFED8'0805;
constexpr std::uint64_t configuration = 0xB000'0000;
constexpr std::uint32_t base_of_ports = 0x8000'F840;  // ICH9: device 31, offset 40H
constexpr std::uint32_t base_of_configuration = 0x8000'0060;

// S5 is type 7.
SleepControl control_in_memory() {
    SleepControl control;
    control.allowed_types = 1U << 7;
    control.request_bytes = {pm1_second_byte};
    control.request_bytes_used = 1;
    return control;
}
SleepControl q35() {
    SleepControl control;
    control.allowed_types = 1U << 7;
    control.memory_configuration = configuration;
    control.fix(base_of_ports);
    control.fix(base_of_configuration);
    control.fix(base_of_configuration + 4);
    return control;
}
std::vector<std::uint64_t> pages(const KeptRegisters& kept) {
    return {kept.pages().begin(), kept.pages().end()};
}

TEST(KeptRegisters, LieInThePagesOfTheirFunctions) {
    EXPECT_TRUE(pages(KeptRegisters{}).empty());
    EXPECT_EQ(pages(KeptRegisters{control_in_memory()}), std::vector<std::uint64_t>{0xFED8'0000});
    EXPECT_EQ(pages(KeptRegisters{q35()}), (std::vector<std::uint64_t>{0xB00F'8000, 0xB000'0000}))
        << "device 31, and the host bridge once";
    SleepControl by_ports = q35();
    by_ports.memory_configuration.reset();
    EXPECT_TRUE(pages(KeptRegisters{by_ports}).empty());
    EXPECT_EQ(in_memory_configuration(configuration, 0x8012'3B44), 0xB123'B044U) << "PCIe 5.0 table 7-1";
}

TEST(KeptRegisters, OnlyAllowedTypesAreRequestedWhateverTheWritesSize) {
    const KeptRegisters kept{control_in_memory()};
    for (std::uint64_t type = 0; type < 8; ++type) {
        const std::uint64_t byte = type << 2 | 0x20;
        const auto want = type == 7 ? Answer::written : Answer::refused;
        const std::uint64_t left = type == 7 ? byte : byte & ~std::uint64_t{0x20};
        const auto at = [&](std::uint64_t address, unsigned size, unsigned shift) {
            const auto decision = kept.decide({address, size, byte << shift});
            EXPECT_EQ(decision.answer, want) << type << " of " << size;
            EXPECT_EQ(decision.value, left << shift) << type << " of " << size;
        };
        at(pm1_second_byte, 1, 0);
        at(pm1_second_byte - 1, 2, 8);
        at(pm1_second_byte - 3, 4, 24);
        at(pm1_second_byte - 5, 8, 40);
        EXPECT_EQ(kept.decide({pm1_second_byte, 1, type << 2}).answer, Answer::written) << "without SLP_EN";
        EXPECT_EQ(kept.decide({pm1_second_byte - 1, 1, byte}).answer, Answer::written) << "beside it";
        EXPECT_EQ(kept.decide({pm1_second_byte + 1, 4, byte}).answer, Answer::written) << "behind it";
    }
}

TEST(KeptRegisters, WhatSaysWhereRegistersLieStays) {
    const KeptRegisters kept{q35()};
    for (const std::uint64_t fixed : {0xB00F'8040ULL, 0xB000'0060ULL, 0xB000'0064ULL}) {
        EXPECT_EQ(kept.decide({fixed, 4, 0x601}).answer, Answer::fixed);
        EXPECT_EQ(kept.decide({fixed + 3, 1, 0x60}).answer, Answer::fixed);
        EXPECT_EQ(kept.decide({fixed - 1, 2, 0}).answer, Answer::fixed) << "from below";
        EXPECT_EQ(kept.decide({fixed - 7, 8, 0}).answer, Answer::fixed) << "from below";
    }
    for (const std::uint64_t other : {0xB00F'8044ULL, 0xB00F'803CULL, 0xB000'0068ULL, 0xB000'005CULL}) {
        const auto decision = kept.decide({other, 4, 0x1234'5678});
        EXPECT_EQ(decision.answer, Answer::written);
        EXPECT_EQ(decision.value, 0x1234'5678U);
    }
}

std::vector<RegisterWrite> changes(std::uint64_t address, std::array<std::uint8_t, 8> before,
                                   std::array<std::uint8_t, 8> now) {
    std::vector<RegisterWrite> all;
    for_each_change(address, before, now, [&](const RegisterWrite& each) { all.push_back(each); });
    return all;
}

TEST(KeptRegisters, OfAnInstructionThatL0DoesNotReadEachChangedByteIsWritten) {
    constexpr std::array<std::uint8_t, 8> zeros{};
    EXPECT_TRUE(changes(0x1000, zeros, zeros).empty());
    const auto one = changes(0x1000, zeros, {0, 0, 0, 7});
    ASSERT_EQ(one.size(), 1U);
    EXPECT_EQ(one[0].address, 0x1003U);
    EXPECT_EQ(one[0].size, 1U);
    EXPECT_EQ(one[0].value, 7U);
    const auto whole = changes(0x1000, zeros, {1, 2, 3, 4});
    ASSERT_EQ(whole.size(), 1U);
    EXPECT_EQ(whole[0].size, 4U);
    EXPECT_EQ(whole[0].value, 0x0403'0201U);
    const auto mixed = changes(0x1000, zeros, {0, 2, 3, 4, 5, 0, 0, 8});
    ASSERT_EQ(mixed.size(), 4U);
    EXPECT_EQ(mixed[0].address, 0x1001U);
    EXPECT_EQ(mixed[0].size, 1U) << "no write that is not aligned";
    EXPECT_EQ(mixed[1].address, 0x1002U);
    EXPECT_EQ(mixed[1].size, 2U);
    EXPECT_EQ(mixed[1].value, 0x0403U);
    EXPECT_EQ(mixed[2].address, 0x1004U);
    EXPECT_EQ(mixed[2].size, 1U);
    EXPECT_EQ(mixed[3].address, 0x1007U);
}

}  // namespace
}  // namespace flatback::metal::kept_registers_test
