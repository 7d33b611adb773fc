// Whether L0 can go on behind a machine check (SDM 3B 16.3.1.2, 16.3.2.2, 16.6.3).
#include <gtest/gtest.h>

#include <array>
#include <cstdint>

#include "metal/ground/machine_check_verdict.hpp"

namespace flatback::metal::machine_check_test {
namespace {

// IA32_MCG_STATUS: RIPV, EIPV, MCIP. IA32_MCi_STATUS: VAL, UC, PCC, S, AR, by the SDM's figures.
constexpr std::uint64_t ripv = 1;
constexpr std::uint64_t eipv = 2;
constexpr std::uint64_t mcip = 4;
constexpr std::uint64_t recovery = 0x0100'0000;  // IA32_MCG_CAP.MCG_SER_P
constexpr std::uint64_t corrected = 0x8000'0000'0000'0151;
constexpr std::uint64_t uncorrected = 0xA000'0000'0000'0151;
constexpr std::uint64_t corrupt = 0xA200'0000'0000'0151;
constexpr std::uint64_t action_optional = 0xA100'0000'0000'00CF;
constexpr std::uint64_t action_required = 0xA180'0000'0000'0134;

bool with(std::uint64_t status, std::uint64_t capability, std::uint64_t bank) {
    const std::array<std::uint64_t, 3> banks{0, bank, 0};
    return machine_check::can_go_on(status, capability, banks);
}

TEST(MachineCheck, WithoutAGoodRipL0CannotGoOn) {
    for (const std::uint64_t bank : {std::uint64_t{0}, corrected, action_optional})
        EXPECT_FALSE(with(mcip | eipv, recovery, bank)) << bank;
    EXPECT_TRUE(with(mcip | ripv, recovery, 0)) << "another processor's, told to all";
}

TEST(MachineCheck, WithACorruptedContextL0CannotGoOn) {
    EXPECT_FALSE(with(mcip | ripv, 0, corrupt));
    EXPECT_FALSE(with(mcip | ripv, recovery, corrupt));
    EXPECT_TRUE(with(mcip | ripv, recovery, corrupt & ~(std::uint64_t{1} << 63))) << "the bank is not valid";
}

TEST(MachineCheck, OfL0sOwnInstructionIsNotMendedByExecutingItAgain) {
    EXPECT_FALSE(with(mcip | ripv | eipv, recovery, action_required));
    EXPECT_TRUE(with(mcip | ripv, recovery, action_required)) << "of another processor's instruction";
    EXPECT_TRUE(with(mcip | ripv | eipv, recovery, action_optional));
    EXPECT_TRUE(with(mcip | ripv | eipv, recovery, corrected));
}

TEST(MachineCheck, WhereTheProcessorDoesNotTellOfRecoveryEachUncorrectedErrorOfTheInstructionEndsL0) {
    EXPECT_FALSE(with(mcip | ripv | eipv, 0, uncorrected));
    EXPECT_FALSE(with(mcip | ripv | eipv, 0, action_optional)) << "bits 55 and 56 mean something else there";
    EXPECT_TRUE(with(mcip | ripv, 0, uncorrected));
    EXPECT_TRUE(with(mcip | ripv | eipv, 0, corrected));
}

TEST(MachineCheck, EachBankCounts) {
    const std::array<std::uint64_t, 4> last{corrected, 0, corrected, corrupt};
    EXPECT_FALSE(machine_check::can_go_on(mcip | ripv, recovery, last));
    const std::array<std::uint64_t, 4> first{corrupt, 0, 0, corrected};
    EXPECT_FALSE(machine_check::can_go_on(mcip | ripv, recovery, first));
}

}  // namespace
}  // namespace flatback::metal::machine_check_test
