#include "guests/linux/processor_table.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <string_view>
#include <vector>

namespace flatback::guests::processor_table_test {
namespace {

constexpr std::size_t memory_size = 0xA0000;

template <typename T>
T get(const std::vector<std::byte>& memory, std::uint64_t at) {
    T value;
    std::memcpy(&value, memory.data() + at, sizeof value);
    return value;
}

unsigned sum(const std::vector<std::byte>& memory, std::uint64_t at, std::size_t size) {
    unsigned total = 0;
    for (std::size_t i = 0; i < size; ++i) total += static_cast<unsigned>(memory[at + i]);
    return total & 0xFF;
}

std::string_view text(const std::vector<std::byte>& memory, std::uint64_t at, std::size_t size) {
    return {reinterpret_cast<const char*>(memory.data() + at), size};
}

// MultiProcessor Specification 1.4, 4.1 and 4.2: where the fields lie.
TEST(ProcessorTable, ThePointerLeadsToATableOfEveryProcessor) {
    for (const unsigned processors : {1U, 2U, most_l2_processors}) {
        std::vector<std::byte> memory(memory_size);
        write_processor_table(memory, processors);
        EXPECT_EQ(text(memory, processor_table_address, 4), "_MP_");
        EXPECT_EQ(get<std::uint8_t>(memory, processor_table_address + 8), 1);  // in units of 16 bytes
        EXPECT_EQ(sum(memory, processor_table_address, 16), 0U);
        const auto table = get<std::uint32_t>(memory, processor_table_address + 4);
        EXPECT_EQ(text(memory, table, 4), "PCMP");
        const auto length = get<std::uint16_t>(memory, table + 4);
        EXPECT_EQ(length, 44 + 20 * processors + 8);
        EXPECT_EQ(sum(memory, table, length), 0U);
        EXPECT_EQ(get<std::uint16_t>(memory, table + 34), processors + 1);
        EXPECT_EQ(get<std::uint32_t>(memory, table + 36), 0xFEE00000U);
        for (unsigned number = 0; number < processors; ++number) {
            const std::uint64_t entry = table + 44 + 20 * number;
            EXPECT_EQ(get<std::uint8_t>(memory, entry), 0);
            EXPECT_EQ(get<std::uint8_t>(memory, entry + 1), number);
            EXPECT_EQ(get<std::uint8_t>(memory, entry + 3), number == 0 ? 3 : 1);
        }
        EXPECT_LE(table + length, processor_table_address + processor_table_limit);
    }
}

TEST(ProcessorTable, NothingElseIsWritten) {
    std::vector<std::byte> memory(memory_size + 1, std::byte{0x5A});
    write_processor_table(memory, most_l2_processors);
    for (std::size_t at = 0; at < memory.size(); ++at) {
        if (at >= processor_table_address && at < processor_table_address + processor_table_limit) continue;
        ASSERT_EQ(memory[at], std::byte{0x5A}) << at;
    }
}

}  // namespace
}  // namespace flatback::guests::processor_table_test
