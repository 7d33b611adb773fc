#include "metal/load/uefi_memory.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "test_bytes.hpp"
#include "test_memory.hpp"

namespace flatback::metal::uefi_memory_test {
namespace {

// As OVMF has them: 8 bytes behind the fields that UEFI 2.10 names.
constexpr std::uint32_t descriptor_size = 48;

struct Descriptor {
    std::uint32_t type;
    std::uint64_t start;
    std::uint64_t pages;
    std::uint64_t attributes = 0xF;
    friend bool operator==(const Descriptor&, const Descriptor&) = default;
};

TestBytes map_of(const std::vector<Descriptor>& descriptors) {
    TestBytes bytes(descriptors.size() * descriptor_size);
    std::size_t at = 0;
    for (const Descriptor& descriptor : descriptors) {
        bytes.put(at, descriptor.type);
        bytes.put(at + 8, descriptor.start);
        bytes.put(at + 24, descriptor.pages);
        bytes.put(at + 32, descriptor.attributes);
        at += descriptor_size;
    }
    return bytes;
}

std::vector<Descriptor> read_map(Bytes bytes) {
    std::vector<Descriptor> descriptors;
    for (std::uint64_t at = 0; at < bytes.size(); at += descriptor_size) {
        descriptors.push_back({*read<std::uint32_t>(bytes, at), *read<std::uint64_t>(bytes, at + 8),
                               *read<std::uint64_t>(bytes, at + 24), *read<std::uint64_t>(bytes, at + 32)});
    }
    return descriptors;
}

UefiMemory uefi_of(const TestBytes& map) {
    return {.map = map.view(),
            .descriptor_size = descriptor_size,
            .descriptor_version = 1,
            .system_table = 0x7F9EE018};
}

std::vector<Descriptor> told(const std::vector<Descriptor>& firmware, const MemoryMap& memory) {
    const TestBytes map = map_of(firmware);
    const UefiMemory uefi = uefi_of(map);
    std::vector<std::byte> room(uefi.most_bytes(memory));
    const std::uint64_t size = tell_uefi_memory(uefi, memory, room);
    EXPECT_LE(size, room.size());
    return read_map(Bytes{room}.first(size));
}

MemoryMap usable(std::initializer_list<PhysicalRange> ranges) {
    MemoryMap memory;
    for (const PhysicalRange range : ranges) EXPECT_TRUE(memory.add(range, MemoryKind::usable));
    return memory;
}

TEST(UefiMemory, WhatL1MayUseStaysAsItIs) {
    const std::vector<Descriptor> firmware{{7, 0, 0xA0}, {3, 0x100000, 0x100}, {4, 0x200000, 0x10, 0x800F}};
    EXPECT_EQ(told(firmware, usable({{0, 0xA0000}, {0x100000, 0x300000}})), firmware);
}

TEST(UefiMemory, MemoryThatL0KeepsIsCutOutAndReserved) {
    MemoryMap memory = usable({{0x100000, 0x1000000}});
    ASSERT_TRUE(memory.add({0x400000, 0x600000}, MemoryKind::reserved));
    const std::vector<Descriptor> expected{
        {7, 0x100000, 0x300}, {0, 0x400000, 0x200}, {7, 0x600000, 0xA00, 0xF}};
    EXPECT_EQ(told({{7, 0x100000, 0xF00}}, memory), expected);
}

TEST(UefiMemory, AKeptRangeOverSeveralDescriptorsIsReservedInEach) {
    MemoryMap memory = usable({{0x100000, 0x400000}});
    ASSERT_TRUE(memory.add({0x180000, 0x280000}, MemoryKind::reserved));
    const std::vector<Descriptor> expected{
        {2, 0x100000, 0x80}, {0, 0x180000, 0x80}, {0, 0x200000, 0x80}, {1, 0x280000, 0x180}};
    EXPECT_EQ(told({{2, 0x100000, 0x100}, {1, 0x200000, 0x200}}, memory), expected);
}

// Runtime services, ACPI's tables and NVS, memory-mapped I/O: never the system's, whatever `memory` says.
TEST(UefiMemory, WhatIsTheFirmwaresStaysTheFirmwares) {
    std::vector<Descriptor> firmware;
    std::uint64_t start = 0x100000;
    for (const std::uint32_t type : {0U, 5U, 6U, 8U, 9U, 10U, 11U, 12U, 13U, 14U, 0x80000001U}) {
        firmware.push_back({type, start, 1, 0x8000'0000'0000'000F});
        start += 0x1000;
    }
    EXPECT_EQ(told(firmware, usable({{0, 0x200000}})), firmware);
    EXPECT_EQ(told(firmware, MemoryMap{}), firmware);
}

TEST(UefiMemory, APageOfWhichAPartIsKeptIsReserved) {
    const std::vector<Descriptor> expected{{0, 0x100000, 1}, {7, 0x101000, 2}, {0, 0x103000, 1}};
    EXPECT_EQ(told({{7, 0x100000, 4}}, usable({{0x100800, 0x103400}})), expected);
}

TEST(UefiMemory, NumbersWithoutSenseDoNoHarm) {
    const MemoryMap memory = usable({{0x100000, 0x200000}});
    // More pages than addresses; a range that wraps; overlapping ranges, of which more come than there is
    // room.
    static_cast<void>(told({{7, 0x100000, ~std::uint64_t{0}}, {7, ~std::uint64_t{0xFFF}, 4}}, memory));
    static_cast<void>(told(std::vector<Descriptor>(20, {7, 0, 0x400}), memory));
}

TEST(UefiMemory, WhatBootServicesHaveLeftCanBeKeptOffFrom) {
    const MemoryMap memory = usable({{0x100000, 0x400000}});
    const TestBytes map =
        map_of({{7, 0x100000, 0x100}, {4, 0x200000, 0x10}, {3, 0x280000, 1}, {2, 0x300000, 0x100}});
    const auto clear = without_boot_services(uefi_of(map), memory);
    ASSERT_TRUE(clear);
    EXPECT_FALSE(clear->is_usable({0x200000, 0x201000}));
    EXPECT_FALSE(clear->is_usable({0x280000, 0x281000}));
    EXPECT_TRUE(clear->is_usable({0x100000, 0x200000}));
    EXPECT_TRUE(clear->is_usable({0x281000, 0x400000}));
    // Not from UEFI.
    EXPECT_TRUE(without_boot_services({}, memory)->is_usable({0x100000, 0x400000}));
    // More ranges than a map holds.
    std::vector<Descriptor> many;
    for (std::uint64_t i = 0; i < 2 * MemoryMap::capacity; ++i) many.push_back({4, 0x100000 + i * 0x2000, 1});
    const TestBytes full = map_of(many);
    EXPECT_FALSE(without_boot_services(uefi_of(full), memory));
}

TEST(UefiMemory, IsKnownOnlyWhole) {
    const TestBytes map = map_of({{7, 0, 0xA0}});
    EXPECT_TRUE(uefi_of(map).is_known());
    UefiMemory uefi = uefi_of(map);
    uefi.system_table = 0;
    EXPECT_FALSE(uefi.is_known());
    for (const std::uint32_t size : {0U, 8U, 32U, 44U, 47U, 1U << 16}) {
        uefi = uefi_of(map);
        uefi.descriptor_size = size;
        EXPECT_FALSE(uefi.is_known()) << size;
    }
    uefi = uefi_of(map);
    uefi.map = uefi.map.first(descriptor_size - 8);
    EXPECT_FALSE(uefi.is_known());
    EXPECT_FALSE(UefiMemory{}.is_known());
}

}  // namespace
}  // namespace flatback::metal::uefi_memory_test
