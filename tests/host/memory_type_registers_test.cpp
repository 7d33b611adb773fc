// L1's MTRRs take what SDM 3A 12.11 lets them take.
#include "host/memory_type_registers.hpp"

#include <gtest/gtest.h>

namespace flatback::host::memory_type_registers_test {
namespace {

constexpr std::uint64_t eight_ranges = 8;
constexpr std::uint64_t fixed_ranges = 1U << 8;
constexpr std::uint64_t write_combining = 1U << 10;
constexpr std::uint64_t usual = eight_ranges | fixed_ranges | write_combining;
constexpr std::uint32_t base0 = 0x200;
constexpr std::uint32_t mask0 = 0x201;
constexpr std::uint32_t fix64k = 0x250;
constexpr std::uint32_t default_type = 0x2ff;

TEST(MemoryTypeRegisters, ExistAsTheCapabilitySays) {
    const MemoryTypeRegisters all{usual, 40};
    for (std::uint32_t msr = 0x1f0; msr < 0x310; ++msr) {
        const bool fixed = msr == 0x250 || msr == 0x258 || msr == 0x259 || (msr >= 0x268 && msr <= 0x26f);
        const bool expected = (msr >= 0x200 && msr < 0x210) || fixed || msr == default_type;
        EXPECT_EQ(all.contains(msr), expected) << std::hex << msr;
    }
    for (const std::uint32_t msr : {0U, 0x10U, 0xfeU, 0x17fU, 0x1ffU, 0xc000'0080U}) {
        EXPECT_FALSE(MemoryTypeRegisters::may_contain(msr)) << std::hex << msr;
        EXPECT_FALSE(all.contains(msr)) << std::hex << msr;
    }
    const MemoryTypeRegisters without_fixed{eight_ranges, 40};
    EXPECT_FALSE(without_fixed.contains(fix64k));
    const MemoryTypeRegisters none{0, 40};
    EXPECT_FALSE(none.contains(default_type));
}

TEST(MemoryTypeRegisters, ReadWhatWasWritten) {
    MemoryTypeRegisters all{usual, 40};
    EXPECT_EQ(all.read(mask0), std::nullopt);
    ASSERT_TRUE(all.write(mask0, 0xff'c000'0800));
    EXPECT_EQ(all.read(mask0), 0xff'c000'0800U);
    EXPECT_FALSE(all.write(mask0, 1));
    EXPECT_EQ(all.read(mask0), 0xff'c000'0800U);
}

TEST(MemoryTypeRegisters, TakeNoTypeThatIsNone) {
    for (unsigned type = 0; type < 256; ++type) {
        const bool good = type == 0 || type == 1 || type == 4 || type == 5 || type == 6;
        MemoryTypeRegisters all{usual, 40};
        EXPECT_EQ(all.write(base0, type), good) << type;
        EXPECT_EQ(all.write(default_type, type), good) << type;
        for (unsigned shift = 0; shift < 64; shift += 8)
            EXPECT_EQ(all.write(fix64k, std::uint64_t{type} << shift), good) << type << " at " << shift;
    }
    MemoryTypeRegisters without_combining{eight_ranges | fixed_ranges, 40};
    EXPECT_FALSE(without_combining.write(base0, 1));
    EXPECT_FALSE(without_combining.write(default_type, 1));
    EXPECT_FALSE(without_combining.write(fix64k, 1));
}

TEST(MemoryTypeRegisters, TakeNoReservedBit) {
    for (unsigned bit = 0; bit < 64; ++bit) {
        MemoryTypeRegisters all{usual, 40};
        const std::uint64_t value = 1ULL << bit;
        if (bit >= 8) {
            EXPECT_EQ(all.write(base0, value), bit >= 12 && bit < 40) << bit;
            EXPECT_EQ(all.write(default_type, value), bit == 10 || bit == 11) << bit;
        }
        EXPECT_EQ(all.write(mask0, value), bit >= 11 && bit < 40) << bit;
    }
    MemoryTypeRegisters without_fixed{eight_ranges, 40};
    EXPECT_FALSE(without_fixed.write(default_type, 0x406));
}

}  // namespace
}  // namespace flatback::host::memory_type_registers_test
