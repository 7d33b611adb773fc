#include "metal/load/multiboot2_loader.hpp"

#include <gtest/gtest.h>

#include <random>

#include "metal/load/multiboot2.hpp"
#include "test_elf.hpp"
#include "test_memory.hpp"

namespace flatback::metal::multiboot2_loader_test {
namespace {

constexpr std::uint32_t linked_at = 0x200000;

struct Tag {
    std::uint16_t type;
    std::uint16_t flags;
    std::vector<std::uint32_t> words;
};
const Tag end_tag{0, 0, {}};

// Section 3.1: magic, architecture, length, checksum, then the tags.
void put_header(TestBytes& bytes, std::size_t offset, std::vector<Tag> tags) {
    tags.push_back(end_tag);
    std::size_t at = offset + 16;
    for (const Tag& tag : tags) {
        bytes.put<std::uint16_t>(at, tag.type);
        bytes.put<std::uint16_t>(at + 2, tag.flags);
        bytes.put<std::uint32_t>(at + 4, static_cast<std::uint32_t>(8 + 4 * tag.words.size()));
        for (std::size_t i = 0; i < tag.words.size(); ++i)
            bytes.put<std::uint32_t>(at + 8 + 4 * i, tag.words[i]);
        at += (8 + 4 * tag.words.size() + 7) / 8 * 8;
    }
    const auto length = static_cast<std::uint32_t>(at - offset);
    bytes.put<std::uint32_t>(offset, 0xE85250D6);
    bytes.put<std::uint32_t>(offset + 4, 0);
    bytes.put<std::uint32_t>(offset + 8, length);
    bytes.put<std::uint32_t>(offset + 12, 0U - 0xE85250D6U - length);
}

const Tag entry_tag{3, 0, {linked_at + 0x40}};
const Tag relocatable_tag{10, 0, {0x200000, 0x7FFFFFFF, 0x200000, 1}};

// As this L0's own image: ELF64, linked high, its header at the start of the first segment.
TestBytes make_kernel(const std::vector<Tag>& tags) {
    constexpr std::uint64_t linear = 0xFFFFFFFF80200000;
    TestBytes text = patterned(0x2000, 1);
    put_header(text, 0, tags);
    return make_elf64(linear + 0x40, {{linked_at, text.view(), 0x5000, linear}});
}

TEST(Multiboot2Header, IsFoundOnAnyMultipleOfEightInTheFirst32Kilobytes) {
    for (const std::size_t offset : {0U, 8U, 4096U, 32768U - 24U}) {
        TestBytes file(40000);
        put_header(file, offset, {});
        EXPECT_TRUE(formats::find_multiboot2_header(file.view())) << offset;
    }
    for (const std::size_t offset : {4U, 32768U}) {
        TestBytes file(40000);
        put_header(file, offset, {});
        EXPECT_FALSE(formats::find_multiboot2_header(file.view())) << offset;
    }
}

TEST(Multiboot2Header, TellsWhatTheKernelDemands) {
    TestBytes file(4096);
    put_header(file, 0, {{1, 0, {6, 8}}, {6, 0, {}}, entry_tag, relocatable_tag});
    const auto header = formats::find_multiboot2_header(file.view());
    ASSERT_TRUE(header);
    EXPECT_EQ(header->entry, linked_at + 0x40);
    EXPECT_TRUE(header->relocatable);
    EXPECT_EQ(header->alignment, 0x200000U);
    EXPECT_EQ(header->unknown_tag, 0);
    put_header(file, 0, {{77, 1, {}}});
    EXPECT_EQ(formats::find_multiboot2_header(file.view())->unknown_tag, 0) << "it is optional";
    put_header(file, 0, {{77, 0, {}}});
    EXPECT_EQ(formats::find_multiboot2_header(file.view())->unknown_tag, 77);
}

TEST(Multiboot2L1, AnElfKernelIsLoadedAndGetsWhatItsOwnParserReads) {
    TestMemory memory;
    memory.fill(std::byte{0xEE});
    TestBytes rsdp = patterned(36, 5);
    memory.set_rsdp(rsdp.view());
    const TestBytes module = patterned(0x1800, 2);
    memory.place_module(0x1000000, make_kernel({entry_tag}).view(), "log=info trace=on");
    memory.place_module(0x1100000, module.view(), "first module");
    const auto start = memory.load();
    ASSERT_TRUE(start) << start.error().what;
    EXPECT_EQ(start->mode, L1Start::Mode::protected_mode);
    EXPECT_EQ(start->rax, 0x36D76289U);
    EXPECT_EQ(start->rip, linked_at + 0x40U);
    EXPECT_EQ(memory.get<std::uint64_t>(start->gdt_base + start->code_selector), 0x00CF9B000000FFFFU);
    EXPECT_TRUE(memory.holds(linked_at + 0x2000, TestBytes(0x3000).view())) << "bss is zero";

    // What GRUB gives an L0 is read by the same parser.
    const auto size = memory.get<std::uint32_t>(start->rbx);
    std::vector<std::byte> bytes(size);
    for (std::uint32_t i = 0; i < size; ++i) bytes[i] = memory.get<std::byte>(start->rbx + i);
    const auto parsed = parse_multiboot2(bytes);
    ASSERT_TRUE(parsed) << parsed.error().what;
    EXPECT_EQ(parsed->command_line, "log=info trace=on");
    EXPECT_EQ(parsed->loader_name, "Flatback");
    ASSERT_EQ(parsed->modules.size(), 1U);
    EXPECT_EQ(parsed->modules[0].command_line, "first module");
    EXPECT_TRUE(memory.holds(parsed->modules[0].range.start, module.view()));
    EXPECT_TRUE(parsed->memory.is_usable({TestMemory::high.start, TestMemory::high.end}));
    EXPECT_FALSE(parsed->memory.is_usable(TestMemory::region)) << "L0's own memory";
    EXPECT_EQ(parsed->rsdp.size(), 36U);
}

TEST(Multiboot2L1, ARelocatableKernelGoesElsewhereWhenItsPlaceIsTaken) {
    for (const bool relocatable : {true, false}) {
        TestMemory memory;
        ASSERT_TRUE(memory.memory().add({linked_at, linked_at + 0x1000}, MemoryKind::reserved));
        memory.place_module(0x1000000, make_kernel(relocatable ? std::vector{entry_tag, relocatable_tag}
                                                               : std::vector{entry_tag})
                                           .view());
        const auto start = memory.load();
        ASSERT_EQ(start.has_value(), relocatable);
        if (!relocatable) {
            EXPECT_NE(std::string_view{start.error().what}.find("is not free"), std::string_view::npos);
            continue;
        }
        const std::uint64_t base = start->rip - 0x40;
        EXPECT_NE(base, linked_at);
        EXPECT_EQ(base % 0x200000, 0U);
        EXPECT_EQ(memory.get<std::uint32_t>(base), 0xE85250D6U);
    }
}

TEST(Multiboot2L1, WhatItCannotBeGivenIsRefused) {
    const auto error = [](const std::vector<Tag>& tags) {
        TestMemory memory;
        memory.place_module(0x1000000, make_kernel(tags).view());
        const auto start = memory.load();
        return start ? std::string_view{} : std::string_view{start.error().what};
    };
    EXPECT_NE(error({{77, 0, {}}}).find("does not know"), std::string_view::npos);
    EXPECT_NE(error({{2, 0, {1, 2, 3, 4}}}).find("load addresses"), std::string_view::npos);
    EXPECT_NE(error({{3, 0, {0x100}}}).find("entry"), std::string_view::npos);
    EXPECT_EQ(error({entry_tag}), "");
}

TEST(Multiboot2L1, RandomDamageToAnImageEndsInAStartOrARefusal) {
    std::mt19937 random{7};
    for (int round = 0; round < 300; ++round) {
        TestBytes kernel = make_kernel({entry_tag, relocatable_tag});
        for (int i = 0; i < 4; ++i) {
            const std::size_t at = (random() & 1) != 0 ? random() % 256 : 0x1000 + random() % 128;
            kernel.put<std::uint8_t>(at, static_cast<std::uint8_t>(random()));
        }
        TestMemory memory;
        memory.place_module(0x1000000, kernel.view());
        static_cast<void>(memory.load());
    }
}

}  // namespace
}  // namespace flatback::metal::multiboot2_loader_test
