#include "tools/image/l1_kernel.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tools/ground/temporary_directory.hpp"

namespace flatback::tools::l1_kernel_test {
namespace {

template <typename T>
void put(Bytes& bytes, std::size_t offset, T value) {
    if (bytes.size() < offset + sizeof value) bytes.resize(offset + sizeof value);
    std::memcpy(bytes.data() + offset, &value, sizeof value);
}

std::string refusal(const Bytes& file) {
    const auto kind = check_l1_kernel(file);
    return kind ? "taken" : kind.error().message;
}

void expect_refused(const Bytes& file, std::string_view why) {
    EXPECT_NE(refusal(file).find(why), std::string::npos) << refusal(file);
}

// Of boot protocol 2.15 with a 64-bit entry, and 4 KB of kernel of which the header declares `declared`
// bytes.
Bytes bzimage(std::uint32_t declared = 4096) {
    constexpr std::size_t kernel_at = 3 * 512;
    Bytes image(kernel_at + 4096);
    put<std::uint8_t>(image, 0x1F1, 2);
    put<std::uint32_t>(image, 0x1F4, declared / 16);
    put<std::uint16_t>(image, 0x1FE, 0xAA55);
    put<std::uint32_t>(image, 0x202, 0x53726448);
    put<std::uint16_t>(image, 0x206, 0x20F);
    put<std::uint32_t>(image, 0x230, 0x200000);
    put<std::uint16_t>(image, 0x236, 1);
    put<std::uint64_t>(image, 0x258, 0x1000000);
    return image;
}

template <typename Header, typename Segment>
Bytes elf(unsigned char file_class, std::uint16_t machine, std::uint16_t type = ET_EXEC) {
    Bytes file(0x3000);
    Header header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = file_class;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = type;
    header.e_machine = machine;
    header.e_entry = 0x100010;
    header.e_phoff = sizeof header;
    header.e_phnum = 1;
    header.e_phentsize = sizeof(Segment);
    put(file, 0, header);
    Segment segment{};
    segment.p_type = PT_LOAD;
    segment.p_offset = 0x1000;
    segment.p_vaddr = segment.p_paddr = 0x100000;
    segment.p_filesz = 0x2000;
    segment.p_memsz = 0x8000;
    put(file, sizeof header, segment);
    return file;
}
Bytes elf32() {
    return elf<Elf32_Ehdr, Elf32_Phdr>(ELFCLASS32, EM_386);
}
Bytes elf64() {
    return elf<Elf64_Ehdr, Elf64_Phdr>(ELFCLASS64, EM_X86_64);
}

Bytes multiboot1(std::uint32_t flags = 3) {
    Bytes file = elf32();
    put<std::uint32_t>(file, 0x1000, 0x1BADB002);
    put<std::uint32_t>(file, 0x1004, flags);
    put<std::uint32_t>(file, 0x1008, 0U - 0x1BADB002U - flags);
    return file;
}

Bytes gzip(const Bytes& contents) {
    Bytes stream(contents.size() + 64 * 1024);
    std::size_t used = 0;
    archive* const writer = archive_write_new();
    archive_write_add_filter_gzip(writer);
    archive_write_set_format_raw(writer);
    archive_write_set_bytes_in_last_block(writer, 1);  // no padding
    archive_write_open_memory(writer, stream.data(), stream.size(), &used);
    archive_entry* const entry = archive_entry_new();
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_write_header(writer, entry);
    archive_write_data(writer, contents.data(), contents.size());
    archive_entry_free(entry);
    archive_write_close(writer);
    archive_write_free(writer);
    stream.resize(used);
    return stream;
}

TEST(L1Kernel, TheKindsThatL0TakesAreTaken) {
    EXPECT_EQ(*check_l1_kernel(bzimage()), KernelKind::linux_bzimage);
    EXPECT_EQ(*check_l1_kernel(elf64()), KernelKind::linux_elf64);
    EXPECT_EQ(*check_l1_kernel(multiboot1()), KernelKind::multiboot1);
}

TEST(L1Kernel, ABzImageIsCutShortOnlyBeyondTheUnitOfItsSize) {
    Bytes image = bzimage(4096 + 16);
    expect_refused(image, "cut short");
    image.resize(image.size() + 8);  // half of the last 16 bytes is there, as of memtest86+
    EXPECT_EQ(refusal(image), "taken");
    image.resize(0x254);
    expect_refused(image, "cut short");
}

TEST(L1Kernel, ALinuxThatIsTooOldOrOf32BitsIsNamed) {
    Bytes image = bzimage();
    put<std::uint16_t>(image, 0x206, 0x20B);
    expect_refused(image, "boot protocol 2.11");
    image = bzimage();
    put<std::uint16_t>(image, 0x236, 0);
    expect_refused(image, "64-bit entry");
    image = bzimage();
    put<std::uint32_t>(image, 0x230, 0x180000);
    expect_refused(image, "damaged header");
}

TEST(L1Kernel, AMultiboot1KernelWithDemandsOrBadAddressesIsRefused) {
    expect_refused(multiboot1(0x8), "demands");
    Bytes file = multiboot1(0x10003);
    put<std::uint32_t>(file, 0x100C, 0x100000);
    put<std::uint32_t>(file, 0x1010, 0x101000);
    expect_refused(file, "addresses");
    put<std::uint32_t>(file, 0x100C, 0x101000);
    put<std::uint32_t>(file, 0x1010, 0x100000);
    put<std::uint32_t>(file, 0x1014, 0x103000);
    EXPECT_EQ(refusal(file), "taken");
    put<std::uint32_t>(file, 0x1014, 0x104000);
    expect_refused(file, "cut short");
}

TEST(L1Kernel, WhatCannotBeAnL1IsNamedForWhatItIs) {
    Bytes multiboot2 = elf32();
    put<std::uint32_t>(multiboot2, 0x1000, 0xE85250D6);
    put<std::uint32_t>(multiboot2, 0x1004, 0);
    put<std::uint32_t>(multiboot2, 0x1008, 32);
    put<std::uint32_t>(multiboot2, 0x100C, 0U - 0xE85250D6U - 32U);
    put<std::uint32_t>(multiboot2, 0x1010, 77);
    put<std::uint32_t>(multiboot2, 0x1014, 8);
    put<std::uint32_t>(multiboot2, 0x1018, 0);
    put<std::uint32_t>(multiboot2, 0x101C, 8);
    expect_refused(multiboot2, "is a Multiboot 2 kernel that demands what L0 does not know: tag 77");
    put<std::uint32_t>(multiboot2, 0x1010, 6);
    EXPECT_EQ(refusal(multiboot2), "taken");
    expect_refused(elf32(), "32 bits without a Multiboot header");
    expect_refused(elf<Elf64_Ehdr, Elf64_Phdr>(ELFCLASS64, EM_AARCH64), "not for x86");
    expect_refused(elf<Elf64_Ehdr, Elf64_Phdr>(ELFCLASS64, EM_X86_64, ET_DYN),
                   "not linked to fixed addresses");
    Bytes efi(4096);
    put<std::uint16_t>(efi, 0, 0x5A4D);
    expect_refused(efi, "EFI program");
    expect_refused(Bytes(10000), "no kernel that is known");
    Bytes cut = elf64();
    cut.resize(0x2000);
    expect_refused(cut, "cut short or damaged");
}

TEST(L1Kernel, ACompressedKernelIsUnpacked) {
    const TemporaryDirectory directory = *TemporaryDirectory::create();
    const auto path = directory.path() / "xen.gz";
    ASSERT_TRUE(write_file(path, gzip(multiboot1())));
    const auto kernel = read_l1_kernel(path);
    ASSERT_TRUE(kernel) << kernel.error().message;
    EXPECT_EQ(kernel->kind, KernelKind::multiboot1);
    EXPECT_EQ(kernel->unpacked, multiboot1());

    ASSERT_TRUE(write_file(path, gzip(Bytes(5000))));
    const auto none = read_l1_kernel(path);
    ASSERT_FALSE(none);
    EXPECT_NE(none.error().message.find("xen.gz (unpacked) is no kernel"), std::string::npos);

    Bytes damaged = gzip(multiboot1());
    damaged.resize(damaged.size() / 2);
    ASSERT_TRUE(write_file(path, damaged));
    EXPECT_FALSE(read_l1_kernel(path));
}

TEST(L1Kernel, AnyBytesAreTakenOrRefused) {
    for (const Bytes& good : {bzimage(), elf64(), elf32(), multiboot1(0x10003)}) {
        for (std::size_t at = 0; at < 0x300; ++at) {
            Bytes file = good;
            file[at] ^= std::byte{0xFF};
            static_cast<void>(check_l1_kernel(file));
            file.resize(at);
            static_cast<void>(check_l1_kernel(file));
        }
    }
}

}  // namespace
}  // namespace flatback::tools::l1_kernel_test
