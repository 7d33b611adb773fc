#include "vmx/ept.hpp"

#include <gtest/gtest.h>

namespace flatback::vmx::ept_test {
namespace {

using C = EptVpidCapability;

constexpr C everything{C::execute_only | C::walk_length_4 | C::uncacheable | C::write_back | C::page_2m |
                       C::page_1g | C::accessed_dirty};
constexpr std::uint64_t rwx = ept_entry::permissions;
constexpr std::uint64_t write_back = 6u << 3;

bool misconfigured(std::uint64_t entry, unsigned level, C capability = everything) {
    return is_ept_misconfigured(entry, level, capability, 40);
}

TEST(EptEntry, NotPresentIsNeverMisconfigured) {
    for (unsigned level = 1; level <= 4; ++level) EXPECT_FALSE(misconfigured(~rwx, level)) << level;
}

TEST(EptEntry, OrdinaryEntriesAreFine) {
    EXPECT_FALSE(misconfigured(0x1000 | rwx, 4));
    EXPECT_FALSE(misconfigured(0x1000 | rwx, 3));
    EXPECT_FALSE(misconfigured(0x1000 | rwx, 2));
    EXPECT_FALSE(misconfigured(0x1000 | rwx | write_back, 1));
    EXPECT_FALSE(misconfigured(0x4000'0000 | rwx | write_back | ept_entry::page_size, 3));
    EXPECT_FALSE(misconfigured(0x20'0000 | rwx | write_back | ept_entry::page_size, 2));
    EXPECT_FALSE(misconfigured(0x1000 | rwx | 0xf00 | 0xfff0'0000'0000'0000, 2));  // ignored bits
    EXPECT_FALSE(
        misconfigured(0x1000 | rwx | write_back | ept_entry::page_size, 1));  // bit 7 of a PTE is ignored
}

TEST(EptEntry, WritableButNotReadableIsMisconfigured) {
    for (unsigned level = 1; level <= 4; ++level) {
        EXPECT_TRUE(misconfigured(0x1000 | ept_entry::write, level));
        EXPECT_TRUE(misconfigured(0x1000 | ept_entry::write | ept_entry::execute, level));
    }
}

TEST(EptEntry, ExecuteOnlyDependsOnTheCapability) {
    EXPECT_FALSE(misconfigured(0x1000 | ept_entry::execute, 1));
    EXPECT_TRUE(misconfigured(0x1000 | ept_entry::execute, 1, C{everything.value & ~C::execute_only}));
    EXPECT_FALSE(misconfigured(0x1000 | ept_entry::execute | ept_entry::read, 1,
                               C{everything.value & ~C::execute_only}));
}

TEST(EptEntry, AddressBitBeyondThePhysicalWidthIsReserved) {
    for (unsigned level = 1; level <= 4; ++level) {
        EXPECT_FALSE(misconfigured(1ULL << 39 | rwx, level));
        EXPECT_TRUE(misconfigured(1ULL << 40 | rwx, level));
        EXPECT_TRUE(misconfigured(1ULL << 51 | rwx, level));
        EXPECT_FALSE(misconfigured(1ULL << 52 | rwx, level));
    }
}

TEST(EptEntry, LowBitsOfAPointerToATableAreReserved) {
    for (unsigned level = 2; level <= 4; ++level) {
        for (unsigned bit = 3; bit <= 6; ++bit) EXPECT_TRUE(misconfigured(0x1000 | rwx | 1u << bit, level));
    }
    EXPECT_TRUE(misconfigured(0x1000 | rwx | ept_entry::page_size, 4));
}

TEST(EptEntry, LargePageNeedsItsCapability) {
    constexpr std::uint64_t large = 0x4000'0000 | rwx | write_back | ept_entry::page_size;
    EXPECT_TRUE(misconfigured(large, 3, C{everything.value & ~C::page_1g}));
    EXPECT_TRUE(misconfigured(large, 2, C{everything.value & ~C::page_2m}));
}

TEST(EptEntry, LowAddressBitsOfALargePageAreReserved) {
    constexpr std::uint64_t large = rwx | write_back | ept_entry::page_size;
    for (unsigned bit = 12; bit < 21; ++bit) EXPECT_TRUE(misconfigured(large | 1ULL << bit, 2)) << bit;
    for (unsigned bit = 12; bit < 30; ++bit) EXPECT_TRUE(misconfigured(large | 1ULL << bit, 3)) << bit;
    EXPECT_FALSE(misconfigured(large | 1ULL << 21, 2));
    EXPECT_FALSE(misconfigured(large | 1ULL << 30, 3));
}

TEST(EptEntry, MemoryTypesTwoThreeAndSevenAreReserved) {
    for (std::uint64_t type = 0; type < 8; ++type) {
        const bool bad = type == 2 || type == 3 || type == 7;
        EXPECT_EQ(misconfigured(0x1000 | rwx | type << 3, 1), bad) << type;
        EXPECT_EQ(misconfigured(0x20'0000 | rwx | type << 3 | ept_entry::page_size, 2), bad) << type;
    }
}

TEST(EptEntry, PageAddressDropsWhatIsBelowThePage) {
    EXPECT_EQ(ept_entry::page_address(0x8000'0012'3456'7fff, 1), 0x0000'0012'3456'7000u);
    EXPECT_EQ(ept_entry::page_address(0x8000'0012'3456'7fff, 2), 0x0000'0012'3440'0000u);
    EXPECT_EQ(ept_entry::page_address(0x8000'0012'3456'7fff, 3), 0x0000'0012'0000'0000u);
}

TEST(Eptp, MadeOfItsPartsIsValid) {
    constexpr Eptp eptp = Eptp::make(0x12'3000, x86::MemoryType::write_back, true);
    EXPECT_EQ(eptp.value, 0x12'305eu);
    EXPECT_TRUE(eptp.is_valid(everything, 40));
    EXPECT_EQ(eptp.walk_length(), 4u);
    EXPECT_EQ(eptp.root(), 0x12'3000u);
    EXPECT_EQ(Eptp::make(0x1000, x86::MemoryType::uncacheable, false).value, 0x1018u);
}

TEST(Eptp, TagIgnoresEverythingButTheAddress) {
    EXPECT_EQ(Eptp{0x12'305e}.ep4ta(), Eptp{0x12'3018}.ep4ta());
    EXPECT_EQ(Eptp{0x12'305e}.ep4ta(), 0x123u);
    EXPECT_NE(Eptp{0x12'305e}.ep4ta(), Eptp{0x12'405e}.ep4ta());
}

TEST(Eptp, BreaksOneRuleAtATime) {
    EXPECT_TRUE(Eptp{0x105e}.is_valid(everything, 40));
    EXPECT_TRUE(Eptp{0x101e}.is_valid(everything, 40));
    EXPECT_FALSE(Eptp{0x1019}.is_valid(everything, 40));  // write combining
    EXPECT_FALSE(Eptp{0x101f}.is_valid(everything, 40));  // type 7
    EXPECT_FALSE(Eptp{0x1016}.is_valid(everything, 40));  // walk length 3
    EXPECT_FALSE(Eptp{0x1026}.is_valid(everything, 40));  // walk length 5
    EXPECT_FALSE(Eptp{0x109e}.is_valid(everything, 40));  // shadow-stack enforcement
    for (unsigned bit = 8; bit < 12; ++bit) EXPECT_FALSE(Eptp{0x101e | 1ULL << bit}.is_valid(everything, 40));
    EXPECT_FALSE(Eptp{0x101e | 1ULL << 40}.is_valid(everything, 40));  // beyond the physical width
    EXPECT_FALSE(Eptp{0x101e | 1ULL << 63}.is_valid(everything, 52));
}

TEST(Eptp, IsHeldToTheCapability) {
    EXPECT_FALSE(Eptp{0x105e}.is_valid(C{everything.value & ~C::accessed_dirty}, 40));
    EXPECT_FALSE(Eptp{0x101e}.is_valid(C{everything.value & ~C::write_back}, 40));
    EXPECT_FALSE(Eptp{0x1018}.is_valid(C{everything.value & ~C::uncacheable}, 40));
    EXPECT_FALSE(Eptp{0x101e}.is_valid(C{everything.value & ~C::walk_length_4}, 40));
}

}  // namespace
}  // namespace flatback::vmx::ept_test
