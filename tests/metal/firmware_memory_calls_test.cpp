#include "metal/firmware/firmware_memory_calls.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "metal/ground/bytes.hpp"

extern "C" const std::byte firmware_calls_start[], firmware_calls_data[];

namespace flatback::metal::firmware_memory_calls_test {
namespace {

constexpr std::uint64_t mb = 1 << 20;
constexpr PhysicalRange l0_region{0x3DE0'0000, 0x3FE0'0000};

// A PC of 1 GB with L0 in it.
MemoryMap pc_memory() {
    MemoryMap memory;
    EXPECT_TRUE(memory.add({0, 0x9F000}, MemoryKind::usable));
    EXPECT_TRUE(memory.add({0x9F000, 0xA0000}, MemoryKind::reserved));
    EXPECT_TRUE(memory.add({0x100000, 0x3FFF'0000}, MemoryKind::usable));
    EXPECT_TRUE(memory.add({0x3FFF'0000, 0x4000'0000}, MemoryKind::acpi_reclaimable));
    EXPECT_TRUE(memory.add(l0_region, MemoryKind::reserved));
    return memory;
}

// The first megabyte as a BIOS leaves it.
std::vector<std::byte> pc_low_memory(std::uint16_t base_memory = 639, std::uint32_t vector = 0xF000'F859) {
    std::vector<std::byte> low(mb);
    EXPECT_TRUE(write(low, 0x15 * 4, vector));
    EXPECT_TRUE(write(low, 0x413, base_memory));
    return low;
}

TEST(FirmwareMemoryCalls, SizesAreOfTheMemoryInOnePieceFrom1MbAndFrom16Mb) {
    EXPECT_EQ(memory_sizes(pc_memory()), (MemorySizes{15 * 1024, (0x3DE0'0000 - 16 * mb) >> 16, 63 * 1024}));
    MemoryMap small;
    ASSERT_TRUE(small.add({0, 10 * mb}, MemoryKind::usable));
    EXPECT_EQ(memory_sizes(small), (MemorySizes{9 * 1024, 0, 9 * 1024}));
    MemoryMap hole;  // at 15 MB, as old boards could have it
    ASSERT_TRUE(hole.add({0, 64 * mb}, MemoryKind::usable));
    ASSERT_TRUE(hole.add({15 * mb, 16 * mb}, MemoryKind::reserved));
    EXPECT_EQ(memory_sizes(hole), (MemorySizes{14 * 1024, 0, 14 * 1024}));
    MemoryMap large;
    ASSERT_TRUE(large.add({0, 1ULL << 40}, MemoryKind::usable));
    EXPECT_EQ(memory_sizes(large), (MemorySizes{15 * 1024, 0xFFFF, 63 * 1024}));
}

TEST(FirmwareMemoryCalls, TheHandlerLiesAtTheEndOfBaseMemoryAndHoldsTheMap) {
    std::vector<std::byte> low = pc_low_memory();
    MemoryMap memory = pc_memory();
    const auto hooked = hook_firmware_memory_calls(low.data(), memory);
    ASSERT_TRUE(hooked);
    ASSERT_TRUE(*hooked);
    const PhysicalRange place = **hooked;
    EXPECT_EQ(place, (PhysicalRange{0x9E000, 639 * 1024}));
    EXPECT_FALSE(memory.is_usable({place.start, place.start + 1}));
    EXPECT_TRUE(memory.is_usable({0, place.start}));

    EXPECT_EQ(read<std::uint16_t>(low, 0x413), place.start / 1024) << "INT 12H";
    EXPECT_EQ(read<std::uint32_t>(low, 0x15 * 4), place.start / 16 << 16) << "offset 0 of a segment";
    const auto code_size = static_cast<std::uint64_t>(firmware_calls_data - firmware_calls_start);
    EXPECT_EQ(std::memcmp(low.data() + place.start, firmware_calls_start, code_size), 0);
    const std::uint64_t data = place.start + code_size;
    EXPECT_EQ(read<std::uint32_t>(low, data), 0xF000'F859) << "the rest goes on to the firmware";
    EXPECT_EQ(read<std::uint16_t>(low, data + 4), 15 * 1024);
    EXPECT_EQ(read<std::uint16_t>(low, data + 6), (0x3DE0'0000 - 16 * mb) >> 16);
    EXPECT_EQ(read<std::uint16_t>(low, data + 8), 63 * 1024);
    ASSERT_EQ(read<std::uint16_t>(low, data + 10), memory.entries().size());
    MemoryMap told;
    for (std::uint64_t at = data + 12; const MemoryEntry& entry : memory.entries()) {
        EXPECT_EQ(read<std::uint64_t>(low, at), entry.range.start);
        EXPECT_EQ(read<std::uint64_t>(low, at + 8), entry.range.size());
        EXPECT_EQ(read<std::uint32_t>(low, at + 16), static_cast<std::uint32_t>(entry.kind));
        at += 20;
    }
}

TEST(FirmwareMemoryCalls, NothingIsTouchedWhereThereIsNoSuchFirmware) {
    for (std::vector<std::byte> low : {pc_low_memory(639, 0), pc_low_memory(0), pc_low_memory(0xFFFF)}) {
        const std::vector<std::byte> before = low;
        MemoryMap memory = pc_memory();
        const auto hooked = hook_firmware_memory_calls(low.data(), memory);
        ASSERT_TRUE(hooked);
        EXPECT_FALSE(*hooked);
        EXPECT_EQ(low, before);
        EXPECT_EQ(memory.entries().size(), pc_memory().entries().size());
    }
}

TEST(FirmwareMemoryCalls, WithoutMemoryForTheHandlerThereIsNone) {
    std::vector<std::byte> low = pc_low_memory();
    const std::vector<std::byte> before = low;
    MemoryMap memory;
    ASSERT_TRUE(memory.add({0x100000, 0x4000'0000}, MemoryKind::usable));
    EXPECT_FALSE(hook_firmware_memory_calls(low.data(), memory));
    EXPECT_EQ(low, before);
}

// Each entry takes 20 bytes of the 4 KB.
TEST(FirmwareMemoryCalls, TheLargestMapFits) {
    std::vector<std::byte> low = pc_low_memory();
    MemoryMap memory;
    ASSERT_TRUE(memory.add({0, 0x9F000}, MemoryKind::usable));
    for (std::uint64_t at = 0; memory.entries().size() < MemoryMap::capacity - 1; ++at)
        ASSERT_TRUE(memory.add({(1 + 2 * at) * mb, (2 + 2 * at) * mb}, MemoryKind::usable));
    EXPECT_TRUE(hook_firmware_memory_calls(low.data(), memory));
    EXPECT_EQ(memory.entries().size(), MemoryMap::capacity);
}

}  // namespace
}  // namespace flatback::metal::firmware_memory_calls_test
