#include "metal/firmware/multiprocessor_table.hpp"

#include <gtest/gtest.h>

#include <array>
#include <string_view>

#include "metal/firmware/acpi_tables.hpp"
#include "test_bytes.hpp"

namespace flatback::metal::multiprocessor_table_test {
namespace {

constexpr std::uint32_t table_at = 0xF1230;

// Processors 0 (the boot processor), 1 and 5 enabled, 2 not; a bus and an I/O APIC between.
class Firmware {
public:
    explicit Firmware(std::uint32_t pointer_at = 0xF0040) : memory(0x10'0000), pointer_at_(pointer_at) {
        TestBytes table(44);
        for (std::size_t at = 0; at < 4; ++at) table.put(at, "PCMP"[at]);
        processor(table, 0, 3);
        processor(table, 1, 1);
        other(table, 1);
        processor(table, 2, 0);
        other(table, 2);
        processor(table, 5, 1);
        table.put(4, static_cast<std::uint16_t>(table.size()));
        length_ = table.size();
        table.put(7, static_cast<std::uint8_t>(0 - acpi_sum(table.view())));
        std::memcpy(memory.data() + table_at, table.view().data(), table.size());
        TestBytes pointer(16);
        for (std::size_t at = 0; at < 4; ++at) pointer.put(at, "_MP_"[at]);
        pointer.put(4, table_at);
        pointer.put<std::uint8_t>(8, 1);
        pointer.put<std::uint8_t>(9, 4);
        put_pointer(pointer);
    }
    void put_pointer(TestBytes pointer) {
        pointer.put<std::uint8_t>(10, 0);
        pointer.put(10, static_cast<std::uint8_t>(0 - acpi_sum(pointer.view())));
        std::memcpy(memory.data() + pointer_at_, pointer.view().data(), pointer.size());
    }
    MultiprocessorTableChange keep(std::uint32_t apic_id) {
        return keep_processors_in_multiprocessor_table(memory.data(), memory.size(), std::array{apic_id});
    }
    // Of processors 0, 1, 2 and 5.
    [[nodiscard]] std::vector<unsigned> flags() {
        std::vector<unsigned> all;
        for (const std::uint32_t at : {44U, 64U, 92U, 120U})
            all.push_back(memory.get<std::uint8_t>(table_at + at + 3));
        return all;
    }
    [[nodiscard]] std::uint8_t sum() { return acpi_sum(memory.view().subspan(table_at, length_)); }

    TestBytes memory;

private:
    static void processor(TestBytes& table, std::uint8_t id, std::uint8_t flags) {
        table.append<std::uint8_t>(0);
        table.append(id);
        table.append<std::uint8_t>(0x14);
        table.append(flags);
        for (int rest = 4; rest < 20; ++rest) table.append<std::uint8_t>(0x55);
    }
    static void other(TestBytes& table, std::uint8_t type) {
        table.append(type);
        for (int rest = 1; rest < 8; ++rest) table.append<std::uint8_t>(0xFF);
    }
    std::uint32_t pointer_at_;
    std::size_t length_ = 0;
};

using Flags = std::vector<unsigned>;

TEST(MultiprocessorTable, OnlyTheProcessorOfL1Stays) {
    Firmware firmware;
    const auto change = firmware.keep(1);
    EXPECT_EQ(change.disabled, 2U);
    EXPECT_FALSE(change.read_only);
    EXPECT_EQ(firmware.flags(), (Flags{2, 1, 0, 0}));
    EXPECT_EQ(firmware.sum(), 0);
    EXPECT_EQ(firmware.keep(1).disabled, 0U) << "nothing is left to do";
}

TEST(MultiprocessorTable, WithoutThisProcessorsIdentifierTheBootProcessorStays) {
    Firmware firmware;
    EXPECT_EQ(firmware.keep(0x1234).disabled, 2U);
    EXPECT_EQ(firmware.flags(), (Flags{3, 0, 0, 0}));
    EXPECT_EQ(firmware.sum(), 0);
}

TEST(MultiprocessorTable, IsFoundWhereverTheSpecificationPutsItsPointer) {
    for (const std::uint32_t pointer_at : {0x9A010U, 0x9F3F0U, 0x9FC00U, 0xFFFF0U, 0x10U}) {
        Firmware firmware{pointer_at};
        firmware.memory.put<std::uint16_t>(0x40E, 0x9A00);
        firmware.memory.put<std::uint16_t>(0x413, 637);
        EXPECT_EQ(firmware.keep(0).disabled, 2U) << std::hex << pointer_at;
    }
}

TEST(MultiprocessorTable, ADefaultConfigurationIsNoneAnyLonger) {
    Firmware firmware;
    TestBytes pointer(16);
    for (std::size_t at = 0; at < 4; ++at) pointer.put(at, "_MP_"[at]);
    pointer.put<std::uint8_t>(11, 5);
    firmware.put_pointer(pointer);
    EXPECT_EQ(firmware.keep(0).disabled, 1U);
    EXPECT_EQ(firmware.keep(0).disabled, 0U);
}

TEST(MultiprocessorTable, ACorruptOneIsLeftAlone) {
    const auto expect_alone = [](auto&& spoil) {
        Firmware firmware;
        spoil(firmware);
        const TestBytes before = firmware.memory;
        EXPECT_EQ(firmware.keep(0).disabled, 0U);
        EXPECT_TRUE(std::ranges::equal(firmware.memory.view(), before.view()));
    };
    expect_alone([](Firmware& f) { f.memory.put<std::uint8_t>(table_at + 20, 1); });
    expect_alone([](Firmware& f) { f.memory.put<std::uint16_t>(table_at + 4, 0xFFFF); });
    expect_alone([](Firmware& f) { f.memory.put<std::uint16_t>(table_at + 4, 8); });
    expect_alone([](Firmware& f) { f.memory.put<std::uint32_t>(0xF0044, 0xFFFF'FFF0); });
    expect_alone([](Firmware& f) {
        f.memory.put<std::uint16_t>(table_at + 4, 63);  // within a processor's entry
        f.memory.put<std::uint8_t>(table_at + 7, 0);
        f.memory.put(table_at + 7,
                     static_cast<std::uint8_t>(0 - acpi_sum(f.memory.view().subspan(table_at, 63))));
    });
    std::byte nothing{};
    EXPECT_EQ(keep_processors_in_multiprocessor_table(&nothing, 1, std::array{0U}).disabled, 0U);
}

}  // namespace
}  // namespace flatback::metal::multiprocessor_table_test
