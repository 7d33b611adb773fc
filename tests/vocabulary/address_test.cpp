#include "x86/address.hpp"

#include <gtest/gtest.h>

#include <concepts>
#include <unordered_set>

#include "x86/paging.hpp"

namespace flatback::x86::address_test {
namespace {

TEST(Address, OfOneLevelIsNotOneOfAnother) {
    static_assert(!std::convertible_to<Gpa<L1>, Gpa<L2>>);
    static_assert(!std::constructible_from<Gpa<L2>, Gpa<L1>>);
    static_assert(!std::constructible_from<Hpa, Gpa<L1>>);
    static_assert(!std::constructible_from<LinearAddress, Hpa>);
    static_assert(!std::equality_comparable_with<Gpa<L1>, Gpa<L2>>);
    static_assert(!std::equality_comparable_with<Gpa<L1>, Hpa>);
    static_assert(!std::convertible_to<std::uint64_t, Hpa>);
    static_assert(std::constructible_from<Hpa, std::uint64_t>);
    EXPECT_EQ(sizeof(Gpa<L1>), 8u);
}

TEST(Address, SplitsIntoPageAndOffset) {
    constexpr Gpa<L1> address{0x1234'5678};
    EXPECT_EQ(address.page_offset(), 0x678u);
    EXPECT_EQ(address.page_number(), 0x12345u);
    EXPECT_EQ(address.align_down(), Gpa<L1>{0x1234'5000});
    EXPECT_EQ(address.align_up(), Gpa<L1>{0x1234'6000});
    EXPECT_EQ(address.align_down(page_size_2m), Gpa<L1>{0x1220'0000});
    EXPECT_EQ(address.offset_in(page_size_2m), 0x14'5678u);
    EXPECT_FALSE(address.is_aligned());
    EXPECT_TRUE(address.align_up().is_aligned());
    EXPECT_EQ(Gpa<L1>{0x3000}.align_up(), Gpa<L1>{0x3000});
}

TEST(Address, IsOrderedAndOffset) {
    EXPECT_LT(Hpa{0x1000}, Hpa{0x2000});
    EXPECT_EQ(Hpa{0x1000} + 0x10, Hpa{0x1010});
    EXPECT_EQ(Hpa{0x1000} - 1, Hpa{0xfff});
    EXPECT_EQ(Hpa{0x3000} - Hpa{0x1000}, 0x2000u);
    std::unordered_set<Gpa<L2>> set{Gpa<L2>{1}, Gpa<L2>{1}, Gpa<L2>{2}};
    EXPECT_EQ(set.size(), 2u);
}

TEST(CanonicalAddress, RepeatsBitFortySeven) {
    EXPECT_TRUE(is_canonical(std::uint64_t{0}));
    EXPECT_TRUE(is_canonical(0x0000'7fff'ffff'ffff));
    EXPECT_TRUE(is_canonical(0xffff'8000'0000'0000));
    EXPECT_TRUE(is_canonical(0xffff'ffff'ffff'ffff));
    // Bit 47 alone: the mistake of testing bits 63:48 for equality only.
    EXPECT_FALSE(is_canonical(0x0000'8000'0000'0000));
    EXPECT_FALSE(is_canonical(0xffff'7fff'ffff'ffff));
    EXPECT_FALSE(is_canonical(0x0001'0000'0000'0000));
    EXPECT_FALSE(is_canonical(0x8000'0000'0000'0000));
}

TEST(CanonicalAddress, RepeatsBitFiftySixWithFiveLevels) {
    EXPECT_TRUE(is_canonical(0x00ff'ffff'ffff'ffff, 57));
    EXPECT_FALSE(is_canonical(0x0100'0000'0000'0000, 57));
    EXPECT_TRUE(is_canonical(0xff00'0000'0000'0000, 57));
}

TEST(PhysicalWidth, BoundsTheAddress) {
    EXPECT_TRUE(fits_physical_width(0xff'ffff'ffff, 40));
    EXPECT_FALSE(fits_physical_width(0x100'0000'0000, 40));
    EXPECT_TRUE(fits_physical_width(0xf'ffff'ffff'ffff, 52));
}

TEST(PagingIndex, SelectsNineBitsALevel) {
    constexpr std::uint64_t address =
        (1ULL << 39) * 0x101 + (1ULL << 30) * 0x1ff + (1ULL << 21) * 7 + 0x5000 + 0x123;
    EXPECT_EQ(table_index(address, 4), 0x101u);
    EXPECT_EQ(table_index(address, 3), 0x1ffu);
    EXPECT_EQ(table_index(address, 2), 7u);
    EXPECT_EQ(table_index(address, 1), 5u);
    EXPECT_EQ(table_index(Gpa<L2>{address}, 2), 7u);
    EXPECT_EQ(bytes_per_entry(1), page_size_4k);
    EXPECT_EQ(bytes_per_entry(2), page_size_2m);
    EXPECT_EQ(bytes_per_entry(3), page_size_1g);
}

TEST(PaePdpte, ReservesBitsOnlyWhilePresent) {
    EXPECT_TRUE(is_valid_pae_pdpte(0x1234'5001, 40));
    EXPECT_TRUE(is_valid_pae_pdpte(0x1234'5019, 40));  // PWT, PCD
    EXPECT_TRUE(is_valid_pae_pdpte(0x1234'5e01, 40));  // ignored bits 11:9
    for (const unsigned bit : {1u, 2u, 5u, 6u, 7u, 8u, 40u, 63u}) {
        EXPECT_FALSE(is_valid_pae_pdpte(1 | 1ULL << bit, 40)) << bit;
        EXPECT_TRUE(is_valid_pae_pdpte(1ULL << bit, 40)) << bit;
    }
}

}  // namespace
}  // namespace flatback::x86::address_test
