#include "guests/linux/guest_image.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <vector>

#include "guests/linux/guest_layout.hpp"

namespace flatback::guests::guest_image_test {
namespace {

std::vector<std::byte> image_of(PayloadId id) {
    std::vector<std::byte> memory(guest_memory_size);
    EXPECT_TRUE(build_guest_image(memory, payload(id)));
    return memory;
}

/// A processor's walk of four levels, 4 KB pages only (SDM 3A 4.5), for a writable page.
std::optional<std::uint64_t> walk(std::span<const std::byte> memory, std::uint64_t cr3,
                                  std::uint64_t linear) {
    std::uint64_t table = cr3;
    for (unsigned shift = 39; shift >= 12; shift -= 9) {
        const std::uint64_t entry = read_guest(memory, table + ((linear >> shift) & 0x1FF) * 8);
        const bool is_large = shift != 12 && (entry & 0x80) != 0;
        if ((entry & 3) != 3 || is_large) {
            return std::nullopt;
        }
        table = entry & 0x000F'FFFF'FFFF'F000;
    }
    return table | (linear & 0xFFF);
}

TEST(GuestImage, BothRootsMapEveryPageButTheWindowToItself) {
    const auto memory = image_of(PayloadId::mov_cr3);
    for (const std::uint64_t root : {first_root, second_root}) {
        for (std::uint64_t linear = 0; linear < guest_memory_size; linear += page_size) {
            if (linear != window && linear != device_window) {
                EXPECT_EQ(walk(memory, root, linear), linear) << "root " << root;
            }
        }
    }
}

TEST(GuestImage, TheWindowReadsADifferentValueUnderEachRoot) {
    const auto memory = image_of(PayloadId::mov_cr3);
    const auto under_first = walk(memory, first_root, window);
    const auto under_second = walk(memory, second_root, window);
    ASSERT_TRUE(under_first && under_second);
    EXPECT_EQ(read_guest(memory, *under_first), first_value);
    EXPECT_EQ(read_guest(memory, *under_second), second_value);
    EXPECT_NE(first_value, second_value);
}

TEST(GuestImage, NothingPastTheGuestsMemoryIsMapped) {
    const auto memory = image_of(PayloadId::cpuid);
    for (const std::uint64_t root : {first_root, second_root}) {
        EXPECT_EQ(walk(memory, root, guest_memory_size), std::nullopt);
        EXPECT_EQ(walk(memory, root, 0x20'0000), std::nullopt);
        EXPECT_EQ(walk(memory, root, 0x4000'0000), std::nullopt);
        EXPECT_EQ(walk(memory, root, 0xFFFF'FFFF'FFFF'F000), std::nullopt);
    }
}

TEST(GuestImage, EveryEntryOfTheTouchRegionIsAccessedAndDirtyFromTheStart) {
    const auto memory = image_of(PayloadId::touch);
    const std::uint64_t page_table = first_root + (tables_per_root - 1) * page_size;
    for (std::uint64_t page = 0; page < touch_pages; ++page) {
        const std::uint64_t linear = touch_region + page * page_size;
        EXPECT_EQ(read_guest(memory, page_table + linear / page_size * 8) & 0x60, 0x60U);
    }
}

TEST(GuestImage, EachPageOfTheTouchRegionStartsWithItsOwnPattern) {
    const auto memory = image_of(PayloadId::touch);
    for (std::uint64_t page = 0; page < touch_pages; ++page) {
        EXPECT_EQ(read_guest(memory, touch_region + page * page_size), touch_pattern(page));
        EXPECT_NE(touch_pattern(page), touch_pattern(page + 1));
    }
}

TEST(GuestImage, HoldsThePayloadsCodeAtItsEntryPoint) {
    for (const Payload& each : all_payloads()) {
        const auto memory = image_of(each.id);
        EXPECT_EQ(std::memcmp(memory.data() + code_address, each.code.data(), each.code.size()), 0)
            << each.name;
    }
}

TEST(GuestImage, RefusesCodeThatWouldRunIntoTheMailbox) {
    std::vector<std::byte> memory(guest_memory_size);
    const std::vector<std::byte> code(code_limit + 1, std::byte{0x90});
    Payload large = payload(PayloadId::cpuid);
    large.code = code;
    EXPECT_FALSE(build_guest_image(memory, large));
    large.code = large.code.first(code_limit);
    EXPECT_TRUE(build_guest_image(memory, large));
    EXPECT_EQ(read_guest(memory, first_mailbox), 0U);
}

TEST(GuestImage, RefusesMemoryOfAnotherSizeAndAnEmptyPayload) {
    std::vector<std::byte> memory(guest_memory_size - page_size);
    EXPECT_FALSE(build_guest_image(memory, payload(PayloadId::cpuid)));
    memory.resize(guest_memory_size);
    Payload empty = payload(PayloadId::cpuid);
    empty.code = {};
    EXPECT_FALSE(build_guest_image(memory, empty));
}

TEST(GuestLayout, ItsPartsDoNotOverlap) {
    EXPECT_LE(first_root + tables_per_root * page_size, second_root);
    EXPECT_LE(second_root + tables_per_root * page_size, code_address);
    EXPECT_LE(code_address + code_limit, first_mailbox);
    EXPECT_LE(first_mailbox + page_size, second_mailbox);
    EXPECT_LE(second_mailbox + page_size, samples_address);
    EXPECT_LE(samples_address + samples_limit * sizeof(std::uint64_t), first_value_page);
    EXPECT_LE(first_value_page + page_size, second_value_page);
    EXPECT_LE(second_value_page + page_size, touch_region);
    EXPECT_LE(touch_region + touch_pages * page_size, window);
    EXPECT_LE(window + page_size, guest_memory_size);
}

}  // namespace
}  // namespace flatback::guests::guest_image_test
