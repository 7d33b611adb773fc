#include "guests/linux/linux_image.hpp"

#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace flatback::guests::linux_image_test {
namespace {

constexpr std::uint64_t load_address = 0x200000;
constexpr std::uint64_t link_address = 0xFFFF'FFFF'8100'0000;
constexpr std::size_t memory_size = 0x400000;
constexpr std::size_t code_size = 200;  // no multiple of the copy's block

std::vector<std::byte> bytes_of(std::size_t size, unsigned first) {
    std::vector<std::byte> bytes(size);
    for (std::size_t i = 0; i < size; ++i) {
        bytes[i] = static_cast<std::byte>(first + i * 7);
    }
    return bytes;
}

struct Kernel {
    Elf64_Ehdr header{};
    Elf64_Phdr segment{};
    std::vector<std::byte> code = bytes_of(code_size, 1);

    Kernel() {
        std::memcpy(header.e_ident, ELFMAG, SELFMAG);
        header.e_ident[EI_CLASS] = ELFCLASS64;
        header.e_ident[EI_DATA] = ELFDATA2LSB;
        header.e_machine = EM_X86_64;
        header.e_entry = load_address + 16;
        header.e_phoff = sizeof header;
        header.e_phentsize = sizeof segment;
        header.e_phnum = 1;
        segment.p_type = PT_LOAD;
        segment.p_offset = sizeof header + sizeof segment;
        segment.p_paddr = load_address;
        segment.p_vaddr = link_address;
        segment.p_filesz = code_size;
        segment.p_memsz = 0x3000;
    }

    [[nodiscard]] std::vector<std::byte> file() const {
        std::vector<std::byte> file(sizeof header + sizeof segment);
        std::memcpy(file.data(), &header, sizeof header);
        std::memcpy(file.data() + sizeof header, &segment, sizeof segment);
        file.insert(file.end(), code.begin(), code.end());
        return file;
    }
};

template <typename T>
T get(const std::vector<std::byte>& memory, std::uint64_t at) {
    T value;
    std::memcpy(&value, memory.data() + at, sizeof value);
    return value;
}

TEST(LinuxImage, WhatTheBootProtocolAsksForIsThere) {
    std::vector<std::byte> memory(memory_size);
    const Kernel kernel;
    const auto file = kernel.file();
    const auto initramfs = bytes_of(5000, 3);
    const auto entry = load_linux(memory, {file, initramfs, "quiet console=ttyS0"});
    ASSERT_TRUE(entry) << entry.error();
    EXPECT_EQ(entry->instruction_pointer, load_address + 16);
    EXPECT_EQ(std::memcmp(memory.data() + load_address, kernel.code.data(), code_size), 0);
    EXPECT_EQ(memory[load_address + code_size], std::byte{0});

    const std::uint64_t zero_page = entry->boot_parameters;
    EXPECT_EQ(get<std::uint16_t>(memory, zero_page + 0x1FE), 0xAA55);
    EXPECT_EQ(std::memcmp(memory.data() + zero_page + 0x202, "HdrS", 4), 0);
    const auto ramdisk = get<std::uint32_t>(memory, zero_page + 0x218);
    EXPECT_EQ(get<std::uint32_t>(memory, zero_page + 0x21C), initramfs.size());
    EXPECT_EQ(ramdisk % 4096, 0U);
    EXPECT_EQ(std::memcmp(memory.data() + ramdisk, initramfs.data(), initramfs.size()), 0);
    EXPECT_STREQ(reinterpret_cast<const char*>(memory.data()) + get<std::uint32_t>(memory, zero_page + 0x228),
                 "quiet console=ttyS0");
    ASSERT_EQ(get<std::uint8_t>(memory, zero_page + 0x1E8), 2);
    EXPECT_EQ(get<std::uint64_t>(memory, zero_page + 0x2D0 + 20), 0x100000U);
    EXPECT_EQ(get<std::uint64_t>(memory, zero_page + 0x2D0 + 28), memory_size - 0x100000U);
}

TEST(LinuxImage, ThePageTablesMapFourGigabytesToThemselves) {
    std::vector<std::byte> memory(memory_size);
    const auto file = Kernel().file();
    const auto entry = load_linux(memory, {file, {}, ""});
    ASSERT_TRUE(entry);
    const auto translate = [&](std::uint64_t linear) {
        constexpr std::uint64_t address_mask = 0x000F'FFFF'FFFF'F000;
        const auto pdpt = get<std::uint64_t>(memory, entry->cr3 + 8 * (linear >> 39 & 511)) & address_mask;
        const auto directory = get<std::uint64_t>(memory, pdpt + 8 * (linear >> 30 & 511)) & address_mask;
        const auto page = get<std::uint64_t>(memory, directory + 8 * (linear >> 21 & 511));
        EXPECT_EQ(page & 0xFFF, 0x83U) << std::hex << linear;
        return (page & address_mask) + (linear & 0x1FFFFF);
    };
    for (const std::uint64_t linear : {0x0ULL, 0x200010ULL, 0x3FFF'FFFFULL, 0x4000'0000ULL, 0xFFFF'F000ULL}) {
        EXPECT_EQ(translate(linear), linear);
    }
}

TEST(LinuxImage, ALinearEntryIsTranslated) {
    std::vector<std::byte> memory(memory_size);
    Kernel kernel;
    kernel.header.e_entry = link_address + 32;
    const auto file = kernel.file();
    EXPECT_EQ(load_linux(memory, {file, {}, ""})->instruction_pointer, load_address + 32);
}

TEST(LinuxImage, BadFilesAreRefusedWithAReason) {
    const auto error_of = [](const std::vector<std::byte>& file, std::size_t initramfs = 0,
                             std::size_t command_line = 0) {
        std::vector<std::byte> memory(memory_size);
        const auto ramdisk = bytes_of(initramfs, 0);
        const auto entry = load_linux(memory, {file, ramdisk, std::string(command_line, 'x')});
        return entry ? std::string("loaded") : entry.error();
    };
    EXPECT_EQ(error_of(Kernel().file()), "loaded");
    EXPECT_EQ(error_of({}), "the kernel is no ELF64 file for x86-64 (an uncompressed vmlinux)");
    auto cut = Kernel().file();
    cut.pop_back();
    EXPECT_EQ(error_of(cut), "the kernel's file is cut short");
    cut.resize(sizeof(Elf64_Ehdr) + 10);
    EXPECT_EQ(error_of(cut), "the kernel's file is cut short");

    Kernel low;
    low.segment.p_paddr = 0x8000;
    EXPECT_EQ(error_of(low.file()), "a segment of the kernel does not fit into L2's memory");
    Kernel high;
    high.segment.p_memsz = ~std::uint64_t{0};
    EXPECT_EQ(error_of(high.file()), "a segment of the kernel does not fit into L2's memory");
    Kernel lost;
    lost.header.e_entry = 0x1000;
    EXPECT_EQ(error_of(lost.file()), "the kernel's entry lies outside of its segments");
    Kernel far;
    far.header.e_phoff = ~std::uint64_t{0} - 8;
    EXPECT_EQ(error_of(far.file()), "the kernel's file is cut short");

    EXPECT_EQ(error_of(Kernel().file(), memory_size - load_address - 0x3000 + 1),
              "kernel and initramfs do not fit into L2's memory");
    EXPECT_EQ(error_of(Kernel().file(), 0, 2048), "the command line of L2 is longer than 2047");
}

}  // namespace
}  // namespace flatback::guests::linux_image_test
