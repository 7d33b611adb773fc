#include "metal/ground/memory_map.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace flatback::metal::memory_map_test {
namespace {

using enum MemoryKind;

std::vector<MemoryEntry> entries_of(const MemoryMap& map) {
    return {map.entries().begin(), map.entries().end()};
}

TEST(MemoryMap, RangesComeOutSortedAndJoined) {
    MemoryMap map;
    ASSERT_TRUE(map.add({0x3000, 0x4000}, usable));
    ASSERT_TRUE(map.add({0x1000, 0x2000}, usable));
    ASSERT_TRUE(map.add({0x2000, 0x3000}, usable));
    EXPECT_EQ(entries_of(map), (std::vector<MemoryEntry>{{{0x1000, 0x4000}, usable}}));
}

TEST(MemoryMap, AReservationInsideUsableMemorySplitsIt) {
    MemoryMap map;
    ASSERT_TRUE(map.add({0x1000, 0x9000}, usable));
    ASSERT_TRUE(map.add({0x3000, 0x4000}, reserved));
    EXPECT_EQ(entries_of(map),
              (std::vector<MemoryEntry>{
                  {{0x1000, 0x3000}, usable}, {{0x3000, 0x4000}, reserved}, {{0x4000, 0x9000}, usable}}));
}

TEST(MemoryMap, UsableMemoryNeverOverridesAnEarlierReservation) {
    MemoryMap map;
    ASSERT_TRUE(map.add({0x3000, 0x5000}, acpi_nvs));
    ASSERT_TRUE(map.add({0x7000, 0x8000}, reserved));
    ASSERT_TRUE(map.add({0x1000, 0x9000}, usable));
    EXPECT_EQ(entries_of(map), (std::vector<MemoryEntry>{{{0x1000, 0x3000}, usable},
                                                         {{0x3000, 0x5000}, acpi_nvs},
                                                         {{0x5000, 0x7000}, usable},
                                                         {{0x7000, 0x8000}, reserved},
                                                         {{0x8000, 0x9000}, usable}}));
}

// The map against a list of bytes with one kind each.
TEST(MemoryMap, AgreesWithAModelOnRandomOverlappingRanges) {
    std::mt19937 random{1};
    for (int round = 0; round < 200; ++round) {
        MemoryMap map;
        std::vector<std::uint32_t> model(64, 0);
        for (int step = 0; step < 12; ++step) {
            const std::uint64_t a = random() % 65;
            const std::uint64_t b = random() % 65;
            const auto kind = static_cast<MemoryKind>(1 + random() % 5);
            const PhysicalRange range{std::min(a, b), std::max(a, b)};
            ASSERT_TRUE(map.add(range, kind));
            for (std::uint64_t at = range.start; at < range.end; ++at) {
                model[at] = std::max(model[at], static_cast<std::uint32_t>(kind));
            }
        }
        std::vector<std::uint32_t> seen(64, 0);
        std::uint64_t last_end = 0;
        for (const MemoryEntry& entry : map.entries()) {
            ASSERT_LT(entry.range.start, entry.range.end);
            ASSERT_GE(entry.range.start, last_end);
            last_end = entry.range.end;
            for (std::uint64_t at = entry.range.start; at < entry.range.end; ++at) {
                seen[at] = static_cast<std::uint32_t>(entry.kind);
            }
        }
        ASSERT_EQ(seen, model);
    }
}

TEST(MemoryMap, AFullMapRefusesAndKeepsWhatItHas) {
    MemoryMap map;
    for (std::uint64_t index = 0; index < MemoryMap::capacity; ++index) {
        ASSERT_TRUE(map.add({index * 0x2000, index * 0x2000 + 0x1000}, usable));
    }
    const auto before = entries_of(map);
    EXPECT_FALSE(map.add({0x1000'0000, 0x1000'1000}, usable));
    EXPECT_FALSE(map.add({0x400, 0x800}, reserved));
    EXPECT_EQ(entries_of(map), before);
    EXPECT_TRUE(map.add({0, 0x1000'0000}, reserved));
    EXPECT_EQ(map.entries().size(), 1u);
}

TEST(MemoryMap, UsableMeansAllOfTheRange) {
    MemoryMap map;
    ASSERT_TRUE(map.add({0x1000, 0x9000}, usable));
    ASSERT_TRUE(map.add({0x4000, 0x5000}, reserved));
    EXPECT_TRUE(map.is_usable({0x1000, 0x4000}));
    EXPECT_FALSE(map.is_usable({0x1000, 0x4001}));
    EXPECT_FALSE(map.is_usable({0x0FFF, 0x2000}));
    EXPECT_FALSE(map.is_usable({0x3000, 0x6000}));
    EXPECT_FALSE(map.is_usable({0x3000, 0x2000}));
}

TEST(MemoryMap, TheHighestPlaceIsAlignedAndClearOfObstacles) {
    MemoryMap map;
    ASSERT_TRUE(map.add({0x10'0000, 0x100'0000}, usable));
    ASSERT_TRUE(map.add({0x200'0000, 0x200'1000}, usable));  // too small
    const PhysicalRange everything{0, ~0ULL};
    EXPECT_EQ(map.find_highest(0x10'0000, 0x10'0000, everything, {}), (PhysicalRange{0xF0'0000, 0x100'0000}));
    const std::vector<PhysicalRange> occupied{{0xF8'0000, 0xF8'1000}, {0xE0'0000, 0xE0'0001}};
    EXPECT_EQ(map.find_highest(0x10'0000, 0x10'0000, everything, occupied),
              (PhysicalRange{0xD0'0000, 0xE0'0000}));
    EXPECT_EQ(map.find_highest(0x10'0000, 0x1000, everything, occupied),
              (PhysicalRange{0xE8'0000, 0xF8'0000}));
    EXPECT_EQ(map.find_highest(0x1000, 0x1000, {0x20'0000, 0x30'0000}, {}),
              (PhysicalRange{0x2F'F000, 0x30'0000}));
}

TEST(MemoryMap, NoPlaceIsFoundWhereNoneIs) {
    MemoryMap map;
    ASSERT_TRUE(map.add({0x10'0000, 0x20'0000}, usable));
    const PhysicalRange everything{0, ~0ULL};
    EXPECT_FALSE(map.find_highest(0x10'0001, 1, everything, {}));
    EXPECT_FALSE(map.find_highest(0x8'0000, 0x40'0000, everything, {}));
    EXPECT_FALSE(map.find_highest(0x1000, 0x1000, {0, 0x10'0000}, {}));
    EXPECT_FALSE(map.find_highest(~0ULL, 0x1000, everything, {}));
    EXPECT_FALSE(map.find_highest(0, 0x1000, everything, {}));
    const std::vector<PhysicalRange> all{{0, ~0ULL}};
    EXPECT_FALSE(map.find_highest(0x1000, 0x1000, everything, all));
}

}  // namespace
}  // namespace flatback::metal::memory_map_test
