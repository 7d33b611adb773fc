#include "metal/load/linux_loader.hpp"

#include <gtest/gtest.h>

#include <random>

#include "test_elf.hpp"
#include "test_memory.hpp"

namespace flatback::metal::linux_loader_test {
namespace {

constexpr std::uint64_t setup_size = 3 * 512;  // two setup sectors and the boot sector
constexpr std::uint64_t payload_size = 0x5000;
constexpr std::uint64_t preferred = 0x1000000;
constexpr std::uint32_t memory_size = 0x200000;

// Offsets are those of the boot protocol's table.
TestBytes make_bzimage() {
    TestBytes image(setup_size);
    image.put<std::uint8_t>(0x1F1, 2);
    image.put<std::uint32_t>(0x1F4, payload_size / 16);
    image.put<std::uint16_t>(0x1FE, 0xAA55);
    image.put<std::uint8_t>(0x201, 0x6A);
    image.put<std::uint32_t>(0x202, 0x53726448);
    image.put<std::uint16_t>(0x206, 0x020F);
    image.put<std::uint8_t>(0x211, 1);
    image.put<std::uint32_t>(0x230, 0x200000);
    image.put<std::uint8_t>(0x234, 1);
    image.put<std::uint16_t>(0x236, 0x3F);
    image.put<std::uint32_t>(0x238, 2047);
    image.put<std::uint64_t>(0x258, preferred);
    image.put<std::uint32_t>(0x260, memory_size);
    const TestBytes payload = patterned(payload_size, 7);
    for (const std::byte byte : payload.view()) image.append(byte);
    return image;
}

std::string_view parse_error(const TestBytes& image) {
    const auto parsed = parse_bzimage(image.view());
    return parsed ? "" : parsed.error().what;
}

// What the processor finds under an address with L1's first page tables.
std::uint64_t translate(const TestMemory& memory, std::uint64_t cr3, std::uint64_t address) {
    const auto pml4e = memory.get<std::uint64_t>(cr3 + (address >> 39 & 511) * 8);
    const auto pdpte = memory.get<std::uint64_t>((pml4e & ~0xFFFULL) + (address >> 30 & 511) * 8);
    const auto pde = memory.get<std::uint64_t>((pdpte & ~0xFFFULL) + (address >> 21 & 511) * 8);
    EXPECT_EQ(pml4e & 0x83, 3u);
    EXPECT_EQ(pdpte & 0x83, 3u);
    EXPECT_EQ(pde & 0x83, 0x83u);
    return (pde & ~0x1FFFFFULL) | (address & 0x1FFFFF);
}

TEST(BzImage, AGoodHeaderIsUnderstood) {
    const TestBytes bytes = make_bzimage();
    const auto image = parse_bzimage(bytes.view());
    ASSERT_TRUE(image) << image.error().what;
    EXPECT_EQ(image->payload_offset, setup_size);
    EXPECT_EQ(image->payload_size, payload_size);
    EXPECT_EQ(image->preferred_address, preferred);
    EXPECT_EQ(image->memory_size, memory_size);
    EXPECT_EQ(image->most_command_line, 2047u);
    EXPECT_TRUE(image->relocatable);
}

TEST(BzImage, NoSetupSectorsMeansFour) {
    TestBytes bytes = make_bzimage();
    bytes.put<std::uint8_t>(0x1F1, 0);
    bytes.put<std::uint32_t>(0x1F4, 0);
    EXPECT_EQ(parse_bzimage(bytes.view())->payload_offset, 5u * 512);
}

// memtest86+ 6 ends 8 bytes before.
TEST(BzImage, TheDeclaredSizeIsInUnitsOf16BytesAndRoundedUp) {
    for (const std::uint64_t missing : {1u, 8u, 15u}) {
        const TestBytes bytes = make_bzimage();
        const auto image = parse_bzimage(bytes.view().first(bytes.view().size() - missing));
        ASSERT_TRUE(image) << missing;
        EXPECT_EQ(image->payload_size, payload_size - missing);
    }
    const TestBytes bytes = make_bzimage();
    EXPECT_FALSE(parse_bzimage(bytes.view().first(bytes.view().size() - 16)));
}

TEST(BzImage, OldAndForeignImagesAreRefused) {
    TestBytes old = make_bzimage();
    old.put<std::uint16_t>(0x206, 0x020B);
    EXPECT_EQ(parse_error(old),
              "the bzImage speaks a boot protocol older than 2.12; use Linux 3.8 or later. It says");
    TestBytes narrow = make_bzimage();
    narrow.put<std::uint16_t>(0x236, 0);
    EXPECT_EQ(parse_error(narrow), "the bzImage has no 64-bit entry; use a 64-bit Linux kernel");
    TestBytes other = make_bzimage();
    other.put<std::uint32_t>(0x202, 0);
    EXPECT_EQ(parse_error(other), "the L1 image is not a bzImage");
}

TEST(BzImage, ACorruptHeaderIsRefused) {
    const std::string_view cut = "the bzImage is cut short or its header is corrupt; its size is";
    TestBytes long_header = make_bzimage();
    long_header.put<std::uint8_t>(0x201, 0xFF);
    EXPECT_EQ(parse_error(long_header), cut);
    TestBytes short_header = make_bzimage();
    short_header.put<std::uint8_t>(0x201, 0x61);
    EXPECT_EQ(parse_error(short_header), cut);
    TestBytes no_payload = make_bzimage();
    no_payload.put<std::uint8_t>(0x1F1, 255);
    EXPECT_EQ(parse_error(no_payload), cut);
    for (const std::uint32_t alignment : {0u, 0x300000u, 0x800u}) {
        TestBytes misaligned = make_bzimage();
        misaligned.put(0x230, alignment);
        EXPECT_EQ(parse_error(misaligned), "the bzImage's header is corrupt: it asks for an alignment of");
    }
    for (const std::uint64_t address : {std::uint64_t{0x1001000}, std::uint64_t{1} << 40}) {
        TestBytes misplaced = make_bzimage();
        misplaced.put(0x258, address);
        EXPECT_EQ(parse_error(misplaced), "the bzImage's header is corrupt: it asks to be loaded at");
    }
}

TEST(BzImage, EveryTruncationIsRefused) {
    const TestBytes whole = make_bzimage();
    for (std::size_t size = 0; size <= whole.size() - 16; ++size) {
        TestBytes cut = whole;
        cut.resize(size);
        EXPECT_FALSE(parse_bzimage(cut.view())) << size;
    }
}

TEST(LinuxL1, ABzImageIsLoadedWithItsCommandLineAndInitramfs) {
    TestMemory memory;
    memory.fill(std::byte{0xEE});
    const TestBytes initramfs = patterned(0x12345, 9);
    memory.place_module(0x200000, make_bzimage().view(), "console=ttyS0");
    memory.place_module(0x800000, initramfs.view());
    const auto start = memory.load();
    ASSERT_TRUE(start) << start.error().what;

    EXPECT_EQ(start->mode, L1Start::Mode::long_mode);
    EXPECT_EQ(start->rip, preferred + 0x200);
    EXPECT_EQ(start->code_selector, 0x10);
    EXPECT_EQ(start->data_selector, 0x18);
    EXPECT_TRUE(memory.holds(preferred, patterned(payload_size, 7).view()));

    const std::uint64_t boot_params = start->rsi;
    EXPECT_EQ(memory.get<std::uint32_t>(boot_params + 0x202), 0x53726448u) << "the image's own header";
    EXPECT_EQ(memory.get<std::uint8_t>(boot_params + 0x210), 0xFF) << "a boot loader without a number";
    EXPECT_EQ(memory.text(memory.get<std::uint32_t>(boot_params + 0x228)), "console=ttyS0");
    EXPECT_EQ(memory.get<std::uint32_t>(boot_params + 0x218), 0x800000u) << "in nobody's way: it stays";
    EXPECT_EQ(memory.get<std::uint32_t>(boot_params + 0x21C), initramfs.size());
    EXPECT_EQ(memory.get<std::uint8_t>(boot_params + 0x00F), 0) << "no screen";
    EXPECT_EQ(memory.get<std::uint64_t>(boot_params + 0x070), 0u) << "no ACPI";

    for (const std::uint64_t address :
         {std::uint64_t{0}, preferred, std::uint64_t{0xFEE00123}, std::uint64_t{0xFFFFFFFF}}) {
        EXPECT_EQ(translate(memory, start->cr3, address), address);
    }
    EXPECT_EQ(memory.get<std::uint64_t>(start->gdt_base + 0x10), 0x00AF9B000000FFFFu);
    EXPECT_EQ(memory.get<std::uint64_t>(start->gdt_base + 0x18), 0x00CF93000000FFFFu);
    EXPECT_EQ(start->gdt_limit, 31);
}

TEST(LinuxL1, TheE820HidesL0AndTheStartBlock) {
    TestMemory memory;
    memory.place_module(0x200000, make_bzimage().view());
    const auto start = memory.load();
    ASSERT_TRUE(start);
    const std::uint64_t boot_params = start->rsi;
    const unsigned count = memory.get<std::uint8_t>(boot_params + 0x1E8);
    MemoryMap e820;
    for (unsigned index = 0; index < count; ++index) {
        const std::uint64_t at = boot_params + 0x2D0 + 20 * index;
        const auto from = memory.get<std::uint64_t>(at);
        ASSERT_TRUE(e820.add({from, from + memory.get<std::uint64_t>(at + 8)},
                             static_cast<MemoryKind>(memory.get<std::uint32_t>(at + 16))));
    }
    EXPECT_EQ(e820.entries().size(), count) << "sorted and without overlaps";
    EXPECT_TRUE(e820.is_usable(TestMemory::high));
    EXPECT_FALSE(e820.is_usable({TestMemory::region.start, TestMemory::region.start + 1}));
    EXPECT_FALSE(e820.is_usable({TestMemory::region.end - 1, TestMemory::region.end}));
    for (const std::uint64_t used : {start->rsi, start->cr3, start->gdt_base, start->rsp - 8}) {
        EXPECT_FALSE(e820.is_usable({used, used + 8})) << used;
        EXPECT_LT(used, 0xA0000u);
    }
}

TEST(LinuxL1, ScreenAndAcpiRootAreHandedOn) {
    TestMemory memory;
    const TestBytes rsdp = patterned(36, 5);
    memory.set_rsdp(rsdp.view());
    memory.set_text_screen();
    memory.place_module(0x200000, make_bzimage().view());
    const auto start = memory.load();
    ASSERT_TRUE(start);
    EXPECT_TRUE(memory.holds(memory.get<std::uint64_t>(start->rsi + 0x070), rsdp.view()));
    EXPECT_EQ(memory.get<std::uint8_t>(start->rsi + 0x00F), 1);
    EXPECT_EQ(memory.get<std::uint8_t>(start->rsi + 0x007), 80);
    EXPECT_EQ(memory.get<std::uint8_t>(start->rsi + 0x00E), 25);
}

// Linux' efi_info, at 1C0H of boot_params.
TEST(LinuxL1, UefisMapAndSystemTableAreHandedOn) {
    constexpr std::uint32_t descriptor_size = 48;
    constexpr std::uint64_t pages = TestMemory::size >> 12;
    TestBytes map(descriptor_size);
    map.put(0, std::uint32_t{7});
    map.put(24, pages);
    for (const bool runtime : {false, true}) {
        TestMemory memory;
        memory.fill(std::byte{0xEE});
        memory.said().from_uefi = true;
        memory.said().uefi_runtime = runtime;
        memory.said().uefi = {.map = map.view(),
                              .descriptor_size = descriptor_size,
                              .descriptor_version = 1,
                              .system_table = 0x1'7F9EE018};
        memory.place_module(0x200000, make_bzimage().view(), "quiet");
        const auto start = memory.load();
        ASSERT_TRUE(start) << start.error().what;
        const auto wide = [&](std::uint64_t at) { return memory.get<std::uint32_t>(start->rsi + at); };
        EXPECT_EQ(wide(0x1C0), 0x34364C45U) << "EL64";
        EXPECT_EQ(wide(0x1C4), 0x7F9EE018U);
        EXPECT_EQ(wide(0x1D8), 1U);
        EXPECT_EQ(wide(0x1C8), descriptor_size);
        EXPECT_EQ(wide(0x1CC), 1U);
        EXPECT_EQ(memory.text(wide(0x228)), runtime ? "quiet" : "quiet efi=noruntime");

        // No page that L0 keeps, or that L1 finds filled, is free in it, and each page stands there once.
        const std::uint64_t at = wide(0x1D0) | std::uint64_t{wide(0x1DC)} << 32;
        std::uint64_t next = 0;
        const auto kept = [&](std::uint64_t page) {
            const bool block = page >= start->rsi && page < at + wide(0x1D4);
            return block || page >= TestMemory::region.start ||
                   (page >= TestMemory::low.end && page < TestMemory::high.start);
        };
        for (std::uint64_t i = at; i < at + wide(0x1D4); i += descriptor_size) {
            const auto from = memory.get<std::uint64_t>(i + 8);
            EXPECT_EQ(from, next);
            next = from + (memory.get<std::uint64_t>(i + 24) << 12);
            for (std::uint64_t page = from; page < next; page += 0x1000)
                ASSERT_EQ(memory.get<std::uint32_t>(i), kept(page) ? 0U : 7U) << page;
        }
        EXPECT_EQ(next, TestMemory::size);
    }
}

TEST(LinuxL1, WithoutUefiNothingIsToldOfIt) {
    TestMemory memory;
    memory.place_module(0x200000, make_bzimage().view(), "quiet");
    const auto start = memory.load();
    ASSERT_TRUE(start);
    EXPECT_EQ(memory.get<std::uint32_t>(start->rsi + 0x1C0), 0U);
    EXPECT_EQ(memory.text(memory.get<std::uint32_t>(start->rsi + 0x228)), "quiet");
}

// A framebuffer is all that UEFI has of a screen.
TEST(LinuxL1, AFramebufferIsHandedOn) {
    TestBytes framebuffer;
    framebuffer.append<std::uint64_t>(0x3'C0000000);
    for (const std::uint32_t number : {5632U, 1366U, 768U}) framebuffer.append(number);
    for (const int byte : {32, 1, 0, 0, 16, 8, 8, 8, 0, 8})
        framebuffer.append(static_cast<std::uint8_t>(byte));
    for (const bool uefi : {true, false}) {
        TestMemory memory;
        memory.said().framebuffer = framebuffer.view();
        memory.said().from_uefi = uefi;
        memory.place_module(0x200000, make_bzimage().view());
        const auto start = memory.load();
        ASSERT_TRUE(start);
        const auto word = [&](std::uint64_t at) { return memory.get<std::uint16_t>(start->rsi + at); };
        const auto wide = [&](std::uint64_t at) { return memory.get<std::uint32_t>(start->rsi + at); };
        EXPECT_EQ(memory.get<std::uint8_t>(start->rsi + 0x0F), uefi ? 0x70 : 0x23);
        EXPECT_EQ(word(0x12), 1366);
        EXPECT_EQ(word(0x14), 768);
        EXPECT_EQ(word(0x16), 32);
        EXPECT_EQ(word(0x24), 5632);
        EXPECT_EQ(wide(0x18), 0xC0000000U);
        EXPECT_EQ(wide(0x3A), 3U);
        EXPECT_EQ(wide(0x36), 2U);
        // 4,325,376 bytes: 66 times 64 KB.
        EXPECT_EQ(wide(0x1C), uefi ? 5632U * 768 : 66U);
        EXPECT_EQ(word(0x26), 16 << 8 | 8);
        EXPECT_EQ(word(0x2A), 0 << 8 | 8);
    }
}

// GRUB may have put anything where the kernel belongs, the image itself included.
TEST(LinuxL1, ModulesInTheKernelsPlaceAreMovedFirst) {
    TestMemory memory;
    const TestBytes initramfs = patterned(0x100000, 9);
    memory.place_module(preferred - 0x1000, make_bzimage().view());
    memory.place_module(preferred + 0x80000, initramfs.view());
    const auto start = memory.load();
    ASSERT_TRUE(start) << start.error().what;
    EXPECT_TRUE(memory.holds(preferred, patterned(payload_size, 7).view()));
    const auto ramdisk = memory.get<std::uint32_t>(start->rsi + 0x218);
    EXPECT_GE(ramdisk, preferred + memory_size);
    EXPECT_LE(ramdisk + initramfs.size(), TestMemory::high.end);
    EXPECT_TRUE(memory.holds(ramdisk, initramfs.view()));
}

TEST(LinuxL1, AnInitramfsOffAPageBoundaryIsMoved) {
    TestMemory memory;
    const TestBytes initramfs = patterned(0x3001, 9);
    memory.place_module(0x200000, make_bzimage().view());
    memory.place_module(0x800010, initramfs.view());
    const auto start = memory.load();
    ASSERT_TRUE(start);
    const auto ramdisk = memory.get<std::uint32_t>(start->rsi + 0x218);
    EXPECT_EQ(ramdisk % 0x1000, 0u);
    EXPECT_TRUE(memory.holds(ramdisk, initramfs.view()));
}

TEST(LinuxL1, ARelocatableKernelGoesElsewhereWhenItsPlaceIsTaken) {
    TestMemory memory;
    ASSERT_TRUE(memory.memory().add({preferred, preferred + 0x1000}, MemoryKind::reserved));
    memory.place_module(0x200000, make_bzimage().view());
    const auto start = memory.load();
    ASSERT_TRUE(start) << start.error().what;
    const std::uint64_t address = start->rip - 0x200;
    EXPECT_EQ(address % 0x200000, 0u);
    EXPECT_TRUE(memory.holds(address, patterned(payload_size, 7).view()));
    EXPECT_EQ(memory.get<std::uint32_t>(start->rsi + 0x214), address);

    TestMemory fixed;
    ASSERT_TRUE(fixed.memory().add({preferred, preferred + 0x1000}, MemoryKind::reserved));
    TestBytes image = make_bzimage();
    image.put<std::uint8_t>(0x234, 0);
    fixed.place_module(0x200000, image.view());
    EXPECT_FALSE(fixed.load());
}

TEST(LinuxL1, AnImageThatNeedsMoreThanThereIsIsRefused) {
    TestMemory memory;
    TestBytes image = make_bzimage();
    image.put<std::uint32_t>(0x260, 0xFFFFFFFF);
    memory.place_module(0x200000, image.view());
    const auto start = memory.load();
    ASSERT_FALSE(start);
    EXPECT_EQ(start.error().what.substr(0, 60),
              "there is not enough free memory to load L1; give the machine");
}

TEST(LinuxL1, ACommandLineThatDoesNotFitIsRefused) {
    TestMemory memory;
    TestBytes image = make_bzimage();
    image.put<std::uint32_t>(0x238, 255);
    const std::string fits(255, 'x');
    const std::string too_long(256, 'x');
    memory.place_module(0x200000, image.view(), too_long);
    EXPECT_EQ(memory.load().error().value, 255u);
    memory.modules()[0].command_line = fits;
    EXPECT_TRUE(memory.load());
}

TEST(LinuxL1, AVmlinuxIsLoadedBySegmentsAndStartedAtItsEntry) {
    TestMemory memory;
    memory.fill(std::byte{0xEE});
    const TestBytes text = patterned(0x1234, 1);
    const TestBytes data = patterned(0x800, 2);
    const TestBytes elf = make_elf64(0x1000100, {{0x1000000, text.view(), 0x1234, 0xFFFFFFFF81000000},
                                                 {0x1200000, data.view(), 0x3000, 0xFFFFFFFF81200000}});
    memory.place_module(0xFFF000, elf.view(), "quiet");
    const auto start = memory.load();
    ASSERT_TRUE(start) << start.error().what;
    EXPECT_EQ(start->mode, L1Start::Mode::long_mode);
    EXPECT_EQ(start->rip, 0x1000100u);
    EXPECT_TRUE(memory.holds(0x1000000, text.view()));
    EXPECT_TRUE(memory.holds(0x1200000, data.view()));
    EXPECT_TRUE(memory.holds(0x1200800, TestBytes(0x2800).view())) << "bss is zero";
    EXPECT_EQ(memory.get<std::uint8_t>(0x1203000), 0xEE) << "and ends where it ends";
    EXPECT_EQ(memory.get<std::uint32_t>(start->rsi + 0x202), 0x53726448u);
    EXPECT_EQ(memory.get<std::uint16_t>(start->rsi + 0x1FE), 0xAA55u);
    EXPECT_EQ(memory.text(memory.get<std::uint32_t>(start->rsi + 0x228)), "quiet");
    EXPECT_EQ(memory.get<std::uint32_t>(start->rsi + 0x21C), 0u) << "no initramfs";
}

TEST(LinuxL1, SegmentsMayNotTouchL0OrEachOtherOrLeaveMemory) {
    const auto error_for = [](std::vector<TestSegment> segments) {
        TestMemory memory;
        memory.place_module(0x200000, make_elf64(segments[0].physical, segments).view());
        const auto start = memory.load();
        return start ? std::string_view{} : start.error().what;
    };
    const std::string_view outside =
        "the place for which the L1 image is linked is not free: the firmware keeps it (UEFI keeps some "
        "below 16 MB), "
        "L0 lives there, or there is no memory; link it elsewhere, start from BIOS, or use a kernel that can "
        "be "
        "relocated (a bzImage). It wants";
    EXPECT_EQ(error_for({{0x1000000, {}, 0x1000}}), "");
    EXPECT_EQ(error_for({{TestMemory::region.start - 0x1000, {}, 0x1001}}), outside);
    EXPECT_EQ(error_for({{TestMemory::region.start, {}, 0x1000}}), outside);
    EXPECT_EQ(error_for({{0xA0000, {}, 0x1000}}), outside);
    EXPECT_EQ(error_for({{0x1'0000'0000, {}, 0x1000}}), outside);
    EXPECT_EQ(error_for({{0xFFFF'FFFF'0000'0000, {}, 0x1000}}), outside);
    EXPECT_EQ(error_for({{0x1000000, {}, 0x1001}, {0x1001000, {}, 0x1000}}),
              "parts of the L1 image overlap at");
}

TEST(LinuxL1, AnEntryOutsideOfTheImageIsRefused) {
    TestMemory memory;
    memory.place_module(0x200000, make_elf64(0x500000, {{0x1000000, {}, 0x1000}}).view());
    EXPECT_EQ(memory.load().error().what, "the entry of the ELF image lies outside of its segments");
}

TEST(LinuxL1, MoreThanAnInitramfsIsRefused) {
    TestMemory memory;
    memory.place_module(0x200000, make_bzimage().view());
    memory.place_module(0x300000, patterned(16, 1).view());
    memory.place_module(0x400000, patterned(16, 1).view());
    EXPECT_EQ(memory.load().error().what, "a Linux L1 takes one module, its initramfs; there are");
}

TEST(LinuxL1, RandomDamageToAnImageEndsInAStartOrARefusal) {
    const TestBytes whole = make_bzimage();
    std::mt19937 random{4};
    TestMemory memory;
    for (int round = 0; round < 2000; ++round) {
        TestBytes damaged = whole;
        for (auto flips = 1 + random() % 3; flips > 0; --flips) {
            damaged.put(0x1F1 + random() % 0x80, static_cast<std::uint8_t>(random()));
        }
        memory.modules().clear();
        memory.place_module(0x200000, damaged.view());
        const auto start = memory.load();  // the sanitizers judge
        if (start) {
            EXPECT_LT(start->rip, TestMemory::high.end);
        }
    }
}

TEST(L1Image, NothingAndNonsenseAreRefused) {
    TestMemory empty;
    EXPECT_EQ(empty.load().error().what,
              "there is no L1: pass its kernel as the first module (GRUB: module2 FILE COMMAND-LINE)");
    TestMemory nonsense;
    nonsense.place_module(0x200000, patterned(100, 1).view());
    EXPECT_EQ(nonsense.load().error().what,
              "the L1 image is neither a Linux bzImage, nor an ELF64 vmlinux, nor a Multiboot kernel; its "
              "size is");
    TestMemory plain_elf32;
    plain_elf32.place_module(0x200000, make_elf32(0x1000000, {{0x1000000, {}, 0x1000}}).view());
    EXPECT_FALSE(plain_elf32.load());
}

TEST(L1Image, ModulesOutsideOfUsableMemoryOrOverEachOtherAreRefused) {
    TestMemory memory;
    memory.place_module(0x200000, make_bzimage().view());
    const PhysicalRange good = memory.modules()[0].range;
    for (const PhysicalRange bad :
         {PhysicalRange{TestMemory::region.start, TestMemory::region.start + 16},
          PhysicalRange{0x9EFFF, 0x9F001}, PhysicalRange{0xFFFF0000, 0x1'0000'1000}}) {
        memory.modules().resize(1);
        memory.modules().push_back({bad, {}});
        EXPECT_EQ(memory.load().error().what, "a module lies outside of usable memory at");
    }
    memory.modules().resize(1);
    memory.modules().push_back({{good.end - 1, good.end + 1}, {}});
    EXPECT_EQ(memory.load().error().what, "two modules overlap at");
}

}  // namespace
}  // namespace flatback::metal::linux_loader_test
