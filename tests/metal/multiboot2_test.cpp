#include "metal/load/multiboot2.hpp"

#include <gtest/gtest.h>

#include <random>

#include "test_bytes.hpp"

namespace flatback::metal::multiboot2_test {
namespace {

// Builds the structure tag by tag.
class Structure {
public:
    Structure() : bytes_(8) {}

    void tag(std::uint32_t type, const TestBytes& body) {
        bytes_.pad_to(8);
        bytes_.append(type);
        bytes_.append(static_cast<std::uint32_t>(body.size() + 8));
        for (const std::byte byte : body.view()) bytes_.append(byte);
    }
    void command_line(std::string_view text) {
        TestBytes body;
        body.append_text(text);
        tag(1, body);
    }
    void module(std::uint32_t start, std::uint32_t end, std::string_view text) {
        TestBytes body;
        body.append(start);
        body.append(end);
        body.append_text(text);
        tag(3, body);
    }
    void memory(std::uint64_t start, std::uint64_t length, std::uint32_t kind,
                std::uint32_t entry_size = 24) {
        TestBytes body;
        body.append(entry_size);
        body.append<std::uint32_t>(0);
        body.append(start);
        body.append(length);
        body.append(kind);
        body.append<std::uint32_t>(0);
        tag(6, body);
    }
    TestBytes finish() {
        tag(0, {});
        bytes_.put(0, static_cast<std::uint32_t>(bytes_.size()));
        return bytes_;
    }

private:
    TestBytes bytes_;
};

Structure usual() {
    Structure structure;
    structure.command_line("log=debug");
    structure.module(0x200000, 0x300000, "console=ttyS0");
    structure.module(0x300000, 0x300100, "");
    structure.memory(0, 0x9F000, 1);
    structure.memory(0x100000, 0x3F00000, 1);
    structure.memory(0xFEE00000, 0x1000, 77);
    TestBytes framebuffer(24);
    framebuffer.put<std::uint8_t>(21, 2);
    structure.tag(8, framebuffer);
    structure.tag(14, TestBytes(20));
    structure.tag(99, TestBytes(5));
    return structure;
}

std::string_view error_of(const TestBytes& bytes) {
    const auto parsed = parse_multiboot2(bytes.view());
    return parsed ? "" : parsed.error().what;
}

TEST(Multiboot2, EverythingOfUseIsFound) {
    const TestBytes bytes = usual().finish();
    const auto parsed = parse_multiboot2(bytes.view());
    ASSERT_TRUE(parsed) << parsed.error().what;
    EXPECT_EQ(parsed->command_line, "log=debug");
    ASSERT_EQ(parsed->modules.size(), 2u);
    EXPECT_EQ(parsed->modules[0].range, (PhysicalRange{0x200000, 0x300000}));
    EXPECT_EQ(parsed->modules[0].command_line, "console=ttyS0");
    EXPECT_EQ(parsed->modules[1].range, (PhysicalRange{0x300000, 0x300100}));
    ASSERT_EQ(parsed->memory.entries().size(), 3u);
    EXPECT_TRUE(parsed->memory.is_usable({0x100000, 0x4000000}));
    EXPECT_EQ(parsed->memory.entries()[2].kind, MemoryKind::reserved) << "unknown kinds are reserved";
    EXPECT_EQ(parsed->rsdp.size(), 20u);
    EXPECT_TRUE(parsed->has_text_screen);
}

TEST(Multiboot2, TheBootLoadersNameAndTheBootDeviceAreFound) {
    Structure structure;
    TestBytes name;
    for (const char letter : std::string_view{"GRUB 2.06"}) name.append(letter);
    name.append<std::uint8_t>(0);
    structure.tag(2, name);
    TestBytes device(12);
    device.put<std::uint32_t>(0, 0xE0);
    device.put<std::uint32_t>(4, 0xFFFFFFFF);
    device.put<std::uint32_t>(8, 0x12);
    structure.tag(5, device);
    structure.memory(0, 0x1000, 1);
    const TestBytes bytes = structure.finish();  // the views of what is found point into it
    const auto information = parse_multiboot2(bytes.view());
    ASSERT_TRUE(information);
    EXPECT_EQ(information->loader_name, "GRUB 2.06");
    EXPECT_EQ(information->boot_device, 0xE0FF12FFu);
}

TEST(Multiboot2, TheNewRootPointerIsPreferredInEitherOrder) {
    for (const bool new_first : {false, true}) {
        Structure structure;
        structure.memory(0, 0x1000, 1);
        if (new_first) structure.tag(15, TestBytes(36));
        structure.tag(14, TestBytes(20));
        if (!new_first) structure.tag(15, TestBytes(36));
        const TestBytes bytes = structure.finish();
        EXPECT_EQ(parse_multiboot2(bytes.view())->rsdp.size(), 36u);
    }
}

TEST(Multiboot2, EveryTruncationIsRefused) {
    const TestBytes whole = usual().finish();
    for (std::size_t size = 0; size < whole.size(); ++size) {
        TestBytes cut = whole;
        cut.resize(size);
        EXPECT_FALSE(parse_multiboot2(cut.view())) << size;
        if (size < 8) continue;
        cut.put(0, static_cast<std::uint32_t>(size));  // the structure says so itself
        EXPECT_FALSE(parse_multiboot2(cut.view())) << size;
    }
}

TEST(Multiboot2, RandomDamageNeverReadsOutside) {
    const TestBytes whole = usual().finish();
    std::mt19937 random{2};
    unsigned accepted = 0;
    for (int round = 0; round < 20000; ++round) {
        TestBytes damaged = whole;
        for (auto flips = 1 + random() % 4; flips > 0; --flips) {
            damaged.put(random() % whole.size(), static_cast<std::uint8_t>(random()));
        }
        const auto parsed = parse_multiboot2(damaged.view());  // the sanitizers judge
        if (!parsed) continue;
        ++accepted;
        for (const Module& module : parsed->modules.items()) EXPECT_LE(module.range.start, module.range.end);
    }
    EXPECT_GT(accepted, 0u);
}

TEST(Multiboot2, ATagSmallerThanItsHeaderIsRefused) {
    TestBytes bytes = usual().finish();
    bytes.put<std::uint32_t>(12, 7);
    EXPECT_EQ(error_of(bytes), "a Multiboot2 tag is malformed at offset");
    bytes.put<std::uint32_t>(12, 0xFFFFFFFF);
    EXPECT_EQ(error_of(bytes), "a Multiboot2 tag reaches past the end at offset");
}

TEST(Multiboot2, StringsWithoutEndAreRefused) {
    Structure structure;
    TestBytes body;
    body.append<std::uint32_t>(0x41414141);
    structure.tag(1, body);
    EXPECT_EQ(error_of(structure.finish()), "the Multiboot2 command line has no end");
}

TEST(Multiboot2, AModuleThatEndsBeforeItStartsIsRefused) {
    Structure structure;
    structure.module(0x2000, 0x1000, "");
    EXPECT_EQ(error_of(structure.finish()), "a Multiboot2 module ends before it starts");
}

TEST(Multiboot2, TooManyModulesAreRefused) {
    Structure structure;
    structure.memory(0, 0x1000, 1);
    for (std::uint32_t index = 0; index < Multiboot2Information::most_modules; ++index)
        structure.module(0, 0, "");
    EXPECT_EQ(error_of(Structure{structure}.finish()), "");
    structure.module(0, 0, "");
    EXPECT_EQ(error_of(structure.finish()), "there are too many Multiboot2 modules; pass fewer than this");
}

TEST(Multiboot2, AWrappingMemoryRangeIsRefused) {
    Structure structure;
    structure.memory(0xFFFFFFFFFFFFF000, 0x2000, 1);
    EXPECT_EQ(error_of(structure.finish()), "a range of the memory map wraps around");
}

TEST(Multiboot2, MemoryMapEntriesOfAWrongSizeAreRefused) {
    for (const std::uint32_t size : {0u, 20u}) {
        Structure structure;
        structure.memory(0, 0x1000, 1, size);
        EXPECT_EQ(error_of(structure.finish()), "the Multiboot2 memory map has entries of a wrong size");
    }
}

TEST(Multiboot2, NoMemoryMapIsRefused) {
    Structure structure;
    structure.command_line("");
    EXPECT_EQ(error_of(structure.finish()), "the boot loader gave no memory map; start Flatback with GRUB 2");
}

TEST(Multiboot2, AnyTagOfUefisTellsThatItIsTheFirmware) {
    EXPECT_FALSE(parse_multiboot2(usual().finish().view())->from_uefi);
    for (const std::uint32_t type : {11U, 12U, 17U}) {
        Structure structure = usual();
        TestBytes body;
        body.append<std::uint64_t>(0x12345678);
        structure.tag(type, body);
        const TestBytes bytes = structure.finish();
        const auto parsed = parse_multiboot2(bytes.view());
        ASSERT_TRUE(parsed);
        EXPECT_TRUE(parsed->from_uefi) << type;
        EXPECT_FALSE(parsed->uefi.is_known()) << type << " alone";
    }
}

TEST(Multiboot2, UefisSystemTableAndMapAreFound) {
    Structure structure = usual();
    TestBytes table;
    table.append<std::uint64_t>(0x1'7F9EE018);
    structure.tag(12, table);
    TestBytes map;
    map.append<std::uint32_t>(48);
    map.append<std::uint32_t>(1);
    map.append<std::uint64_t>(7);
    for (int i = 0; i < 5; ++i) map.append<std::uint64_t>(0);
    structure.tag(17, map);
    const TestBytes bytes = structure.finish();
    const auto parsed = parse_multiboot2(bytes.view());
    ASSERT_TRUE(parsed);
    EXPECT_TRUE(parsed->uefi.is_known());
    EXPECT_EQ(parsed->uefi.system_table, 0x1'7F9EE018U);
    EXPECT_EQ(parsed->uefi.descriptor_size, 48U);
    EXPECT_EQ(parsed->uefi.descriptor_version, 1U);
    EXPECT_EQ(parsed->uefi.map.size(), 48U);
    EXPECT_EQ(parsed->uefi.map[0], std::byte{7});
}

}  // namespace
}  // namespace flatback::metal::multiboot2_test
