#include "metal/load/multiboot1_loader.hpp"

#include <gtest/gtest.h>

#include <random>

#include "test_elf.hpp"
#include "test_memory.hpp"

namespace flatback::metal::multiboot1_loader_test {
namespace {

void put_header(TestBytes& bytes, std::size_t offset, std::uint32_t flags) {
    bytes.put<std::uint32_t>(offset, 0x1BADB002);
    bytes.put<std::uint32_t>(offset + 4, flags);
    bytes.put<std::uint32_t>(offset + 8, 0u - 0x1BADB002u - flags);
}

// An ELF32 kernel whose Multiboot header is at the start of its first segment, at 4 KB of the file.
TestBytes make_kernel(std::uint32_t address = 0x100000, std::uint32_t flags = 3) {
    TestBytes text = patterned(0x2000, 1);
    put_header(text, 0, flags);
    return make_elf32(address + 0x10, {{address, text.view(), 0x5000}});
}

TEST(Multiboot1Header, IsFoundOnAnyMultipleOfFourInTheFirst8Kilobytes) {
    for (const std::size_t offset : {0u, 4u, 4096u, 8180u}) {
        TestBytes file(9000);
        put_header(file, offset, 3);
        const auto header = find_multiboot1_header(file.view());
        ASSERT_TRUE(header) << offset;
        EXPECT_EQ(header->offset, offset);
        EXPECT_EQ(header->flags, 3u);
    }
    for (const std::size_t offset : {2u, 8182u, 8184u, 8192u}) {
        TestBytes file(9000);
        put_header(file, offset, 3);
        EXPECT_FALSE(find_multiboot1_header(file.view())) << offset;
    }
}

TEST(Multiboot1Header, AWrongChecksumIsNoHeader) {
    TestBytes file(9000);
    put_header(file, 0, 3);
    file.put<std::uint32_t>(8, 0);
    EXPECT_FALSE(find_multiboot1_header(file.view()));
    put_header(file, 64, 1);
    EXPECT_EQ(find_multiboot1_header(file.view())->offset, 64u) << "the search goes on";
}

TEST(Multiboot1Header, AddressFieldsCutOffByTheEndOfTheFileAreNoHeader) {
    TestBytes file(31);
    put_header(file, 0, 1u << 16);
    EXPECT_FALSE(find_multiboot1_header(file.view()));
}

TEST(Multiboot1L1, AnElfKernelIsLoadedAndGetsWhatTheSpecificationPromises) {
    TestMemory memory;
    memory.fill(std::byte{0xEE});
    const TestBytes module_a = patterned(0x1800, 2);
    const TestBytes module_b = patterned(0x10, 3);
    memory.place_module(0x1000000, make_kernel().view(), "kernel arguments");
    memory.place_module(0x1100000, module_a.view(), "first");
    memory.place_module(0x1200000, module_b.view(), "");
    const auto start = memory.load();
    ASSERT_TRUE(start) << start.error().what;

    EXPECT_EQ(start->mode, L1Start::Mode::protected_mode);
    EXPECT_EQ(start->rax, 0x2BADB002u);
    EXPECT_EQ(start->rip, 0x100010u);
    EXPECT_EQ(start->cr3, 0u);
    EXPECT_EQ(memory.get<std::uint64_t>(start->gdt_base + start->code_selector), 0x00CF9B000000FFFFu);
    EXPECT_EQ(memory.get<std::uint64_t>(start->gdt_base + start->data_selector), 0x00CF93000000FFFFu);
    TestBytes text = patterned(0x2000, 1);
    put_header(text, 0, 3);
    EXPECT_TRUE(memory.holds(0x100000, text.view()));
    EXPECT_TRUE(memory.holds(0x102000, TestBytes(0x3000).view())) << "bss is zero";
    EXPECT_EQ(memory.get<std::uint8_t>(0x105000), 0xEE);

    const std::uint64_t info = start->rbx;
    EXPECT_LT(info, 0xA0000u);
    const auto flags = memory.get<std::uint32_t>(info);
    EXPECT_EQ(flags & 0x24Du, 0x24Du) << "memory, command line, modules, map, loader name";
    EXPECT_EQ(flags & ~0x24Du, 0u) << "and nothing else";
    EXPECT_EQ(memory.get<std::uint32_t>(info + 4), TestMemory::low.end / 1024);
    EXPECT_EQ(memory.get<std::uint32_t>(info + 8), TestMemory::high.size() / 1024);
    EXPECT_EQ(memory.text(memory.get<std::uint32_t>(info + 16)), "kernel arguments");
    EXPECT_EQ(memory.text(memory.get<std::uint32_t>(info + 64)), "Flatback");

    ASSERT_EQ(memory.get<std::uint32_t>(info + 20), 2u);
    const auto modules = memory.get<std::uint32_t>(info + 24);
    EXPECT_EQ(memory.get<std::uint32_t>(modules), 0x1100000u);
    EXPECT_EQ(memory.get<std::uint32_t>(modules + 4), 0x1101800u);
    EXPECT_EQ(memory.text(memory.get<std::uint32_t>(modules + 8)), "first");
    EXPECT_EQ(memory.get<std::uint32_t>(modules + 16), 0x1200000u);
    EXPECT_EQ(memory.text(memory.get<std::uint32_t>(modules + 24)), "");
    EXPECT_TRUE(memory.holds(0x1100000, module_a.view()));
}

// Field by field as GRUB 2 gives it.
TEST(Multiboot1L1, WhatTheBootLoaderSaidIsHandedOn) {
    TestMemory memory;
    memory.place_module(0x1000000, make_kernel().view());
    TestBytes vbe(8 + 512 + 256);
    vbe.put<std::uint16_t>(0, 3);
    vbe.put<std::uint16_t>(2, 0xC000);
    vbe.put<std::uint8_t>(8, 'V');
    vbe.put<std::uint8_t>(8 + 512, 0x9B);
    TestBytes framebuffer(24);
    framebuffer.put<std::uint64_t>(0, 0xB8000);
    framebuffer.put<std::uint32_t>(8, 160);
    framebuffer.put<std::uint32_t>(12, 80);
    framebuffer.put<std::uint32_t>(16, 25);
    framebuffer.put<std::uint8_t>(20, 16);
    framebuffer.put<std::uint8_t>(21, 2);
    memory.said().loader_name = "GRUB 2.06";
    memory.said().boot_device = 0xE0FFFFFF;
    memory.said().vbe = vbe.view();
    memory.said().framebuffer = framebuffer.view();
    const auto start = memory.load();
    ASSERT_TRUE(start) << start.error().what;
    const std::uint64_t info = start->rbx;
    EXPECT_EQ(memory.get<std::uint32_t>(info), 0x1A47u)
        << "all but modules and sections, of which there are none";
    EXPECT_EQ(memory.get<std::uint32_t>(info + 12), 0xE0FFFFFFu);
    EXPECT_EQ(memory.text(memory.get<std::uint32_t>(info + 64)), "GRUB 2.06");
    EXPECT_EQ(memory.get<std::uint8_t>(memory.get<std::uint32_t>(info + 72)), 'V');
    EXPECT_EQ(memory.get<std::uint8_t>(memory.get<std::uint32_t>(info + 76)), 0x9B);
    EXPECT_EQ(memory.get<std::uint16_t>(info + 80), 3);
    EXPECT_EQ(memory.get<std::uint16_t>(info + 82), 0xC000);
    EXPECT_EQ(memory.get<std::uint64_t>(info + 88), 0xB8000u);
    EXPECT_EQ(memory.get<std::uint32_t>(info + 96), 160u);
    EXPECT_EQ(memory.get<std::uint32_t>(info + 100), 80u);
    EXPECT_EQ(memory.get<std::uint32_t>(info + 104), 25u);
    EXPECT_EQ(memory.get<std::uint8_t>(info + 108), 16);
    EXPECT_EQ(memory.get<std::uint8_t>(info + 109), 2);
}

// Symbols belong to no segment: they are loaded too, and their headers say where.
TEST(Multiboot1L1, TheSectionsOfAnElfKernelAreLoaded) {
    TestBytes kernel = make_kernel();
    const auto symbols = static_cast<std::uint32_t>(kernel.size());
    for (std::uint32_t index = 0; index < 100; ++index) kernel.append(static_cast<std::uint8_t>(index));
    kernel.pad_to(4);
    const auto table = static_cast<std::uint32_t>(kernel.size());
    const auto section = [&kernel](std::uint32_t type, std::uint32_t address, std::uint32_t offset,
                                   std::uint32_t size) {
        for (const std::uint32_t word : {1u, type, 0u, address, offset, size, 0u, 0u, 1u, 0u})
            kernel.append(word);
    };
    section(0, 0, 0, 0);
    section(1, 0x100000, 0x1000, 0x2000);
    section(2, 0, symbols, 100);
    kernel.put<std::uint32_t>(32, table);
    kernel.put<std::uint16_t>(46, 40);
    kernel.put<std::uint16_t>(48, 3);
    kernel.put<std::uint16_t>(50, 2);
    TestMemory memory;
    memory.place_module(0x1000000, kernel.view());
    const auto start = memory.load();
    ASSERT_TRUE(start) << start.error().what;
    const std::uint64_t info = start->rbx;
    EXPECT_EQ(memory.get<std::uint32_t>(info) & 0x20, 0x20u);
    EXPECT_EQ(memory.get<std::uint32_t>(info + 28), 3u);
    EXPECT_EQ(memory.get<std::uint32_t>(info + 32), 40u);
    EXPECT_EQ(memory.get<std::uint32_t>(info + 40), 2u);
    const std::uint64_t headers = memory.get<std::uint32_t>(info + 36);
    EXPECT_EQ(memory.get<std::uint32_t>(headers + 40 + 12), 0x100000u);
    const std::uint64_t loaded = memory.get<std::uint32_t>(headers + 80 + 12);
    EXPECT_GE(loaded, 0x105000u);
    for (std::uint32_t index = 0; index < 100; ++index)
        ASSERT_EQ(memory.get<std::uint8_t>(loaded + index), index);

    // A section that reaches outside of the file: no sections, and the kernel starts all the same.
    kernel.put<std::uint32_t>(table + 80 + 20, 0xFFFFFFF0);
    TestMemory cut;
    cut.place_module(0x1000000, kernel.view());
    const auto without = cut.load();
    ASSERT_TRUE(without);
    EXPECT_EQ(cut.get<std::uint32_t>(without->rbx) & 0x20, 0u);
}

TEST(Multiboot1L1, TheMemoryMapHidesL0) {
    TestMemory memory;
    memory.place_module(0x1000000, make_kernel().view());
    const auto start = memory.load();
    ASSERT_TRUE(start);
    const auto length = memory.get<std::uint32_t>(start->rbx + 44);
    const auto map = memory.get<std::uint32_t>(start->rbx + 48);
    MemoryMap seen;
    std::uint32_t at = 0;
    while (at < length) {
        const auto size = memory.get<std::uint32_t>(map + at);
        ASSERT_EQ(size, 20u);
        const auto from = memory.get<std::uint64_t>(map + at + 4);
        ASSERT_TRUE(seen.add({from, from + memory.get<std::uint64_t>(map + at + 12)},
                             static_cast<MemoryKind>(memory.get<std::uint32_t>(map + at + 20))));
        at += size + 4;
    }
    EXPECT_EQ(at, length);
    EXPECT_TRUE(seen.is_usable(TestMemory::high));
    EXPECT_TRUE(seen.is_usable(TestMemory::low));
    EXPECT_FALSE(seen.is_usable({TestMemory::region.start, TestMemory::region.start + 1}));
}

TEST(Multiboot1L1, SegmentsInLowMemoryAreLoadedAndTheInformationStaysClearOfThem) {
    TestMemory memory;
    const TestBytes low = patterned(0x1000, 4);
    TestBytes text = patterned(0x1000, 1);
    put_header(text, 0, 3);
    // All of low memory but 16 KB at its top, then all of it.
    const TestBytes elf =
        make_elf32(0x100010, {{0x100000, text.view(), 0x1000}, {0x8000, low.view(), 0x93000}});
    memory.place_module(0x1000000, elf.view());
    const auto start = memory.load();
    ASSERT_TRUE(start) << start.error().what;
    EXPECT_TRUE(memory.holds(0x8000, low.view()));
    EXPECT_GE(start->rbx, 0x9B000u);
    EXPECT_LT(start->rbx, 0xA0000u);

    TestMemory full;
    const TestBytes all = make_elf32(0x100010, {{0x100000, text.view(), 0x1000}, {0, low.view(), 0x9F000}});
    full.place_module(0x1000000, all.view());
    const auto high_start = full.load();
    ASSERT_TRUE(high_start) << high_start.error().what;
    EXPECT_GE(high_start->rbx, 0x101000u);
}

TEST(Multiboot1L1, ModulesUnderTheKernelAreMovedIntactAndInOrder) {
    TestMemory memory;
    const TestBytes module_a = patterned(0x3000, 2);
    const TestBytes module_b = patterned(0x3000, 3);
    memory.place_module(0xFE000, {}, "");  // replaced below
    memory.modules().clear();
    memory.place_module(0x1000000, make_kernel().view());
    memory.place_module(0x103000, module_b.view(), "b");
    memory.place_module(0x100000, module_a.view(), "a");
    const auto start = memory.load();
    ASSERT_TRUE(start) << start.error().what;
    const auto modules = memory.get<std::uint32_t>(start->rbx + 24);
    EXPECT_EQ(memory.text(memory.get<std::uint32_t>(modules + 8)), "b");
    EXPECT_TRUE(memory.holds(memory.get<std::uint32_t>(modules), module_b.view()));
    EXPECT_EQ(memory.text(memory.get<std::uint32_t>(modules + 24)), "a");
    EXPECT_TRUE(memory.holds(memory.get<std::uint32_t>(modules + 16), module_a.view()));
    EXPECT_GE(memory.get<std::uint32_t>(modules), 0x105000u);
}

TEST(Multiboot1L1, AddressFieldsReplaceTheElfHeaders) {
    TestMemory memory;
    memory.fill(std::byte{0xEE});
    TestBytes file = patterned(0x3000, 1);
    file.put<std::uint32_t>(0, 0);
    const std::uint32_t load = 0x200000;
    put_header(file, 0x100, 1u << 16);
    file.put<std::uint32_t>(0x10C, load + 0xC0);  // the header, so that file offset 0x40 is the load address
    file.put<std::uint32_t>(0x110, load);
    file.put<std::uint32_t>(0x114, load + 0x1000);
    file.put<std::uint32_t>(0x118, load + 0x1800);
    file.put<std::uint32_t>(0x11C, load + 0x20);
    memory.place_module(0x1000000, file.view());
    const auto start = memory.load();
    ASSERT_TRUE(start) << start.error().what;
    EXPECT_EQ(start->rip, load + 0x20);
    EXPECT_TRUE(memory.holds(load, file.view().subspan(0x40, 0x1000)));
    EXPECT_TRUE(memory.holds(load + 0x1000, TestBytes(0x800).view()));
    EXPECT_EQ(memory.get<std::uint8_t>(load + 0x1800), 0xEE);
}

TEST(Multiboot1L1, ZeroEndAddressesMeanTheWholeFileAndNoBss) {
    TestBytes file(0x500);
    put_header(file, 0, 1u << 16);
    file.put<std::uint32_t>(12, 0x200000);
    file.put<std::uint32_t>(16, 0x200000);
    file.put<std::uint32_t>(28, 0x200000);
    const auto image = image_by_addresses(*find_multiboot1_header(file.view()), file.view());
    ASSERT_TRUE(image);
    EXPECT_EQ(image->segments[0].file_size, 0x500u);
    EXPECT_EQ(image->segments[0].memory, (PhysicalRange{0x200000, 0x200500}));
}

TEST(Multiboot1L1, AddressFieldsThatDoNotFitTheFileAreRefused) {
    TestBytes file(0x500);
    const Multiboot1Header good{.offset = 0x40,
                                .flags = 1u << 16,
                                .header_address = 0x200040,
                                .load_address = 0x200000,
                                .load_end_address = 0x200500,
                                .bss_end_address = 0x200600,
                                .entry_address = 0x200000};
    ASSERT_TRUE(image_by_addresses(good, file.view()));
    const auto refused = [&](auto change) {
        Multiboot1Header header = good;
        change(header);
        return !image_by_addresses(header, file.view());
    };
    EXPECT_TRUE(refused([](auto& h) { h.load_end_address = 0x200501; })) << "past the end of the file";
    EXPECT_TRUE(refused([](auto& h) { h.load_address = 0x1FFFFF; })) << "before its start";
    EXPECT_TRUE(refused([](auto& h) { h.header_address = 0x1FFFFF; }));
    EXPECT_TRUE(refused([](auto& h) { h.load_end_address = 0x200000; })) << "empty";
    EXPECT_TRUE(refused([](auto& h) { h.load_end_address = 0x100000; }));
    EXPECT_TRUE(refused([](auto& h) { h.bss_end_address = 0x2004FF; })) << "bss before the data's end";
}

TEST(Multiboot1L1, UnknownDemandsAreRefused) {
    TestMemory memory;
    memory.place_module(0x1000000, make_kernel(0x100000, 1u << 3).view());
    EXPECT_EQ(memory.load().error().what,
              "the Multiboot 1 kernel demands what Flatback does not know; its flags are");
    TestMemory optional;
    optional.place_module(0x1000000, make_kernel(0x100000, 7u | 1u << 20).view());
    EXPECT_TRUE(optional.load()) << "bits from 16 on are offers, not demands";
}

TEST(Multiboot1L1, AKernelOverL0IsRefused) {
    TestMemory memory;
    memory.place_module(0x1000000, make_kernel(TestMemory::region.start).view());
    EXPECT_EQ(memory.load().error().what,
              "the place for which the L1 image is linked is not free: the firmware keeps it (UEFI keeps "
              "some below 16 MB), "
              "L0 lives there, or there is no memory; link it elsewhere, start from BIOS, or use a kernel "
              "that can be "
              "relocated (a bzImage). It wants");
}

TEST(Multiboot1L1, RandomDamageToAnImageEndsInAStartOrARefusal) {
    const TestBytes whole = make_kernel();
    std::mt19937 random{5};
    TestMemory memory;
    for (int round = 0; round < 2000; ++round) {
        TestBytes damaged = whole;
        for (auto flips = 1 + random() % 3; flips > 0; --flips) {
            damaged.put(random() % 0x60, static_cast<std::uint8_t>(random()));
        }
        memory.modules().clear();
        memory.place_module(0x1000000, damaged.view());
        const auto start = memory.load();  // the sanitizers judge
        if (start) {
            EXPECT_LT(start->rip, TestMemory::high.end);
        }
    }
}

}  // namespace
}  // namespace flatback::metal::multiboot1_loader_test
