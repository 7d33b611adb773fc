#include "guests/linux/kexec_plan.hpp"

#include <elf.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

namespace flatback::guests {
namespace {

using Image = std::vector<std::byte>;

constexpr std::uint64_t load_address = 0x1000000;
constexpr std::uint64_t code_size = 200;
constexpr std::uint64_t kernel_memory = 0x2345;
constexpr std::uint64_t memory_end = 0x3FE0000;

template <typename T>
void put(Image& image, std::uint64_t at, T value) {
    std::memcpy(image.data() + at, &value, sizeof value);
}
template <typename T>
T get(const Image& image, std::uint64_t at) {
    T value;
    std::memcpy(&value, image.data() + at, sizeof value);
    return value;
}

// As a Linux that was booted with an initramfs and something in its list of setup_data shows them.
Image boot_parameters(std::uint64_t low_end = 0x9FC00, std::uint64_t high_end = memory_end) {
    Image page(4096);
    const auto add = [&page](std::uint64_t begin, std::uint64_t end, std::uint32_t kind) {
        const auto number = std::to_integer<std::uint64_t>(page[0x1E8]);
        put(page, 0x2D0 + 20 * number, begin);
        put(page, 0x2D0 + 20 * number + 8, end - begin);
        put(page, 0x2D0 + 20 * number + 16, kind);
        page[0x1E8] = static_cast<std::byte>(number + 1);
    };
    add(0, low_end, 1);
    add(0xF0000, 0x100000, 2);
    add(0x100000, high_end, 1);
    add(high_end, 0x8000000, 2);
    put(page, 0x070, std::uint64_t{0xF5A0});
    put(page, 0x218, 0x1234567U);
    put(page, 0x21C, 0x7654U);
    put(page, 0x250, std::uint64_t{0x98765});
    return page;
}

Image kernel_file(std::uint64_t address = load_address, std::uint64_t entry = load_address + 16) {
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_machine = EM_X86_64;
    header.e_entry = entry;
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 1;
    Elf64_Phdr segment{};
    segment.p_type = PT_LOAD;
    segment.p_offset = sizeof header + sizeof segment;
    segment.p_paddr = address;
    segment.p_vaddr = 0xFFFF'FFFF'8100'0000;
    segment.p_filesz = code_size;
    segment.p_memsz = kernel_memory;
    Image file(sizeof header + sizeof segment + code_size, std::byte{0x5A});
    put(file, 0, header);
    put(file, sizeof header, segment);
    return file;
}

std::string error_of(const Image& parameters, const Image& kernel, std::size_t initramfs_size = 5000) {
    const Image initramfs(initramfs_size);
    const auto plan = plan_kexec(parameters, {kernel, initramfs, "quiet"});
    return plan ? "accepted" : plan.error();
}

TEST(KexecPlan, EverythingIsInWholePagesWhereThisMachineHasMemory) {
    const Image parameters = boot_parameters();
    const Image kernel = kernel_file();
    const Image initramfs(5000, std::byte{7});
    const auto plan = plan_kexec(parameters, {kernel, initramfs, "quiet"});
    ASSERT_TRUE(plan) << plan.error();
    ASSERT_EQ(plan->segments.size(), 3U);
    const KexecSegment& code = plan->segments[1];
    EXPECT_EQ(code.address, load_address);
    EXPECT_EQ(code.size, 0x3000U);
    EXPECT_EQ(code.contents.size(), code_size);
    EXPECT_EQ(code.contents.front(), std::byte{0x5A});
    const KexecSegment& files = plan->segments[2];
    EXPECT_EQ(files.address, memory_end - 0x2000);
    EXPECT_EQ(files.size, 0x2000U);
    EXPECT_EQ(files.contents.data(), initramfs.data());
    for (const KexecSegment& each : plan->segments) {
        EXPECT_EQ(each.address % 4096, 0U);
        EXPECT_EQ(each.size % 4096, 0U);
        EXPECT_LE(each.contents.size(), each.size);
    }
}

TEST(KexecPlan, TheNextLinuxFindsTheMachinesTablesAndItsOwnFilesAndWords) {
    const Image initramfs(5000);
    const Image kernel = kernel_file();
    const auto plan = plan_kexec(boot_parameters(), {kernel, initramfs, "quiet end=record"});
    ASSERT_TRUE(plan) << plan.error();
    const KexecSegment& low = plan->segments[0];
    ASSERT_EQ(low.contents.data(), plan->low.data());
    EXPECT_EQ(get<std::uint8_t>(plan->low, 0x1E8), 4);
    EXPECT_EQ(get<std::uint64_t>(plan->low, 0x070), 0xF5A0U);
    EXPECT_EQ(get<std::uint32_t>(plan->low, 0x218), plan->segments[2].address);
    EXPECT_EQ(get<std::uint32_t>(plan->low, 0x21C), initramfs.size());
    EXPECT_EQ(get<std::uint64_t>(plan->low, 0x250), 0U);
    const auto words = get<std::uint32_t>(plan->low, 0x228) - low.address;
    ASSERT_LT(words, plan->low.size());
    EXPECT_STREQ(reinterpret_cast<const char*>(plan->low.data() + words), "quiet end=record");
    // mov $boot_params, %esi; mov $entry, %eax; jmp *%rax
    const auto code = plan->entry - low.address;
    ASSERT_LT(code, plan->low.size());
    EXPECT_EQ(get<std::uint8_t>(plan->low, code), 0xBE);
    EXPECT_EQ(get<std::uint32_t>(plan->low, code + 1), low.address);
    EXPECT_EQ(get<std::uint8_t>(plan->low, code + 5), 0xB8);
    EXPECT_EQ(get<std::uint32_t>(plan->low, code + 6), load_address + 16);
    EXPECT_EQ(get<std::uint16_t>(plan->low, code + 10), 0xE0FF);
}

TEST(KexecPlan, ALinearEntryIsMadePhysical) {
    const Image kernel = kernel_file(load_address, 0xFFFF'FFFF'8100'0040);
    const auto plan = plan_kexec(boot_parameters(), {kernel, {}, ""});
    ASSERT_TRUE(plan) << plan.error();
    EXPECT_EQ(plan->segments.size(), 2U);  // no initramfs
    EXPECT_EQ(get<std::uint32_t>(plan->low, plan->entry - plan->segments[0].address + 6),
              load_address + 0x40);
}

TEST(KexecPlan, WhatHasNoPlaceIsRefused) {
    EXPECT_EQ(error_of(boot_parameters(), kernel_file()), "accepted");
    EXPECT_EQ(error_of(boot_parameters(0x12000), kernel_file()),
              "this machine's memory is not usable at 64 KB");
    EXPECT_EQ(error_of(boot_parameters(), kernel_file(0xF0000, 0xF0010)),
              "a segment of the kernel has no place in this machine's memory");
    EXPECT_EQ(error_of(boot_parameters(), kernel_file(load_address + 8, load_address + 16)),
              "a segment of the kernel has no place in this machine's memory");
    // Neither above the kernel nor below it.
    const std::uint64_t end_of_kernel = load_address + 0x3000;
    EXPECT_EQ(error_of(boot_parameters(0x9FC00, end_of_kernel + 0x2000), kernel_file()), "accepted");
    EXPECT_EQ(error_of(boot_parameters(0x9FC00, end_of_kernel + 0x1000), kernel_file()),
              "kernel and initramfs do not fit into this machine's memory");
    EXPECT_EQ(error_of(boot_parameters(), kernel_file(), memory_end),
              "kernel and initramfs do not fit into this machine's memory");
    EXPECT_EQ(error_of(boot_parameters(), kernel_file(load_address, 0x40)),
              "the kernel's entry lies outside of its segments");
}

TEST(KexecPlan, DamagedInputIsRefused) {
    Image cut = kernel_file();
    cut.pop_back();
    EXPECT_EQ(error_of(boot_parameters(), cut), "the kernel's file is cut short");
    EXPECT_EQ(error_of(boot_parameters(), Image(100)),
              "the kernel is no ELF64 file for x86-64 (an uncompressed vmlinux)");
    EXPECT_EQ(error_of(Image(100), kernel_file()), "boot_params are not of one page");
    // More ranges than the page has room for.
    Image parameters = boot_parameters();
    parameters[0x1E8] = std::byte{0xFF};
    EXPECT_EQ(error_of(parameters, kernel_file()), "accepted");
}

}  // namespace
}  // namespace flatback::guests
