#include "metal/memory/memory_types.hpp"

#include <gtest/gtest.h>

namespace flatback::metal::memory_types_test {
namespace {

using enum x86::MemoryType;

constexpr std::uint64_t type_of_default(x86::MemoryType type) {
    return MemoryTypes::enabled | static_cast<std::uint64_t>(type);
}
constexpr std::uint64_t gigabyte = 0x4000'0000;
constexpr std::uint64_t two_megabytes = 0x20'0000;

MemoryTypes with_default(x86::MemoryType type) {
    MemoryTypes types;
    types.physical_address_width = 40;
    types.default_type = type_of_default(type);
    return types;
}

// A power-of-two range as firmware writes it.
void add_variable(MemoryTypes& types, std::size_t index, std::uint64_t base, std::uint64_t size,
                  x86::MemoryType type) {
    types.variable[index].base = base | static_cast<std::uint64_t>(type);
    types.variable[index].mask = (((1ULL << 40) - 1) & ~(size - 1)) | MemoryTypes::valid;
}

TEST(MemoryTypes, EverythingIsUncacheableWhileTheMtrrsAreOff) {
    MemoryTypes types = with_default(write_back);
    types.default_type &= ~MemoryTypes::enabled;
    EXPECT_EQ(types.type_of(0, gigabyte), uncacheable);
}

TEST(MemoryTypes, TheDefaultHoldsWhereNoRangeDoes) {
    MemoryTypes types = with_default(write_back);
    add_variable(types, 0, 0xC000'0000, gigabyte, uncacheable);
    EXPECT_EQ(types.type_of(0, gigabyte), write_back);
    EXPECT_EQ(types.type_of(0xC000'0000, gigabyte), uncacheable);
    EXPECT_EQ(types.type_of(0x1'0000'0000, gigabyte), write_back);
}

TEST(MemoryTypes, APageThatARangeCoversInPartHasNoOneType) {
    MemoryTypes types = with_default(write_back);
    add_variable(types, 0, 0xE000'0000, 0x1000'0000, uncacheable);
    EXPECT_EQ(types.type_of(0xC000'0000, gigabyte), std::nullopt);
    EXPECT_EQ(types.type_of(0xDFE0'0000, two_megabytes), write_back);
    EXPECT_EQ(types.type_of(0xE000'0000, two_megabytes), uncacheable);
    EXPECT_EQ(types.type_of(0xEFE0'0000, two_megabytes), uncacheable);
    EXPECT_EQ(types.type_of(0xF000'0000, two_megabytes), write_back);
}

TEST(MemoryTypes, OverlappingRangesCombineAsTheManualSays) {
    MemoryTypes types = with_default(uncacheable);
    add_variable(types, 0, 0, gigabyte, write_back);
    add_variable(types, 1, 0, two_megabytes, write_through);
    add_variable(types, 2, two_megabytes, two_megabytes, uncacheable);
    add_variable(types, 3, 2 * two_megabytes, two_megabytes, write_combining);
    EXPECT_EQ(types.type_of(0, two_megabytes), write_through);
    EXPECT_EQ(types.type_of(two_megabytes, two_megabytes), uncacheable);
    EXPECT_EQ(types.type_of(2 * two_megabytes, two_megabytes), uncacheable) << "undefined: the safe type";
    EXPECT_EQ(types.type_of(3 * two_megabytes, two_megabytes), write_back);
}

TEST(MemoryTypes, ARangeThatIsNotValidDoesNotCount) {
    MemoryTypes types = with_default(write_back);
    add_variable(types, 0, 0, gigabyte, uncacheable);
    types.variable[0].mask &= ~MemoryTypes::valid;
    EXPECT_EQ(types.type_of(0, gigabyte), write_back);
}

// A discontiguous mask selects every other 16 KB.
TEST(MemoryTypes, ADiscontiguousMaskIsResolvedPageByPage) {
    MemoryTypes types = with_default(write_back);
    types.variable[0].base = 0x10'0000 | static_cast<std::uint64_t>(uncacheable);
    types.variable[0].mask =
        (((1ULL << 40) - 1) & ~0xF'BFFFULL) | MemoryTypes::valid;  // bits 19:15 and 13:12 free
    EXPECT_EQ(types.type_of(0, two_megabytes), std::nullopt);
    EXPECT_EQ(types.type_of(0x10'0000, 0x1000), uncacheable);
    EXPECT_EQ(types.type_of(0x10'3000, 0x1000), uncacheable);
    EXPECT_EQ(types.type_of(0x10'4000, 0x1000), write_back);
    EXPECT_EQ(types.type_of(0x10'8000, 0x1000), uncacheable);
}

// SDM 3A table 12-9.
TEST(MemoryTypes, FixedRangesRuleTheFirstMegabyte) {
    MemoryTypes types = with_default(write_back);
    types.default_type |= MemoryTypes::fixed_enabled;
    types.fixed.fill(0x0606060606060606);
    types.fixed[0] = 0x0006060606060606;   // 0x70000 to 0x7FFFF
    types.fixed[2] = 0;                    // 0xA0000 to 0xBFFFF
    types.fixed[3] = 0x0606060606060605;   // 0xC0000 to 0xC0FFF
    types.fixed[10] = 0x0106060606060606;  // 0xFF000 to 0xFFFFF
    EXPECT_EQ(types.type_of(0, two_megabytes), std::nullopt);
    EXPECT_EQ(types.type_of(0x6F000, 0x1000), write_back);
    EXPECT_EQ(types.type_of(0x70000, 0x1000), uncacheable);
    EXPECT_EQ(types.type_of(0x80000, 0x1000), write_back);
    EXPECT_EQ(types.type_of(0x9F000, 0x1000), write_back);
    EXPECT_EQ(types.type_of(0xA0000, 0x1000), uncacheable);
    EXPECT_EQ(types.type_of(0xBF000, 0x1000), uncacheable);
    EXPECT_EQ(types.type_of(0xC0000, 0x1000), write_protected);
    EXPECT_EQ(types.type_of(0xC1000, 0x1000), write_back);
    EXPECT_EQ(types.type_of(0xFF000, 0x1000), write_combining);
    EXPECT_EQ(types.type_of(0x100000, 0x1000), write_back);
}

TEST(MemoryTypes, AnInvalidTypeNumberCountsAsUncacheable) {
    MemoryTypes types = with_default(write_back);
    types.default_type = MemoryTypes::enabled | 3;
    EXPECT_EQ(types.type_of(gigabyte, gigabyte), uncacheable);
    types.default_type = MemoryTypes::enabled | 7;
    EXPECT_EQ(types.type_of(gigabyte, gigabyte), uncacheable);
}

}  // namespace
}  // namespace flatback::metal::memory_types_test
