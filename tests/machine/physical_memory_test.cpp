#include "machine/memory/physical_memory.hpp"

#include <gtest/gtest.h>

#include <array>

#include "machine/error.hpp"

namespace flatback::machine::physical_memory_test {
namespace {

TEST(PhysicalMemory, IsZeroWhereNothingWasWritten) {
    const PhysicalMemory memory;
    EXPECT_EQ(memory.read(0x1234'5678), 0U);
    EXPECT_EQ(memory.bytes_in_use(), 0U);
}

TEST(PhysicalMemory, KeepsWhatWasWritten) {
    PhysicalMemory memory;
    memory.write(0x1000, 7);
    memory.write(0x3FFF'FFFF'FFF8, 9);
    EXPECT_EQ(memory.read(0x1000), 7U);
    EXPECT_EQ(memory.read(0x1008), 0U);
    EXPECT_EQ(memory.read(0x3FFF'FFFF'FFF8), 9U);
    EXPECT_EQ(memory.bytes_in_use(), 2U * 4096);
}

TEST(PhysicalMemory, ReadsAndWritesBytesAcrossPages) {
    PhysicalMemory memory;
    const std::array bytes = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
    memory.write_bytes(0x1FFE, bytes);
    std::array<std::byte, 4> back{};
    memory.read_bytes(0x1FFE, back);
    EXPECT_EQ(back, bytes);
    EXPECT_EQ(memory.read(0x1FF8), 0x0201'0000'0000'0000U);
    EXPECT_EQ(memory.read(0x2000), 0x0403U);
}

TEST(PhysicalMemory, RefusesToGrowPastItsLimitInOneClearLine) {
    PhysicalMemory memory({.limit_bytes = 2 * 4096});
    memory.write(0x1000, 1);
    memory.write(0x2000, 1);
    memory.write(0x1008, 1);
    try {
        memory.write(0x3000, 1);
        FAIL() << "the third page was given";
    } catch (const LimitReached& error) {
        EXPECT_STREQ(error.what(), "physical memory: the limit of 8192 bytes is reached");
    }
}

TEST(PhysicalMemory, CountsChangesOfPagesThatAWalkHasRead) {
    PhysicalMemory memory;
    memory.write(0x1000, 1);
    memory.write(0x2000, 1);
    EXPECT_EQ(memory.read_structure(0x1000), 1U);
    const std::uint64_t before = memory.structure_version();
    memory.write(0x2000, 2);
    EXPECT_EQ(memory.structure_version(), before);
    memory.write(0x1008, 2);
    EXPECT_NE(memory.structure_version(), before);
}

TEST(PhysicalMemory, CountsAPageThatComesIntoBeingAsAChange) {
    PhysicalMemory memory;
    EXPECT_EQ(memory.read_structure(0x5000), 0U);
    const std::uint64_t before = memory.structure_version();
    memory.write(0x5000, 3);
    EXPECT_NE(memory.structure_version(), before);
}

TEST(PhysicalMemory, CopiesShareNothing) {
    PhysicalMemory memory;
    memory.write(0x1000, 1);
    PhysicalMemory copy = memory;
    copy.write(0x1000, 2);
    EXPECT_EQ(memory.read(0x1000), 1U);
    EXPECT_EQ(copy.read(0x1000), 2U);
}

}  // namespace
}  // namespace flatback::machine::physical_memory_test
