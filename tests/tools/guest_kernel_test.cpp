#include "tools/image/guest_kernel.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

namespace flatback::tools::guest_kernel_test {
namespace {

template <typename T>
void put(Bytes& bytes, std::size_t offset, T value) {
    if (bytes.size() < offset + sizeof value) bytes.resize(offset + sizeof value);
    std::memcpy(bytes.data() + offset, &value, sizeof value);
}

// An ELF64 kernel of two segments, the second with zeros at its end.
Bytes elf_kernel() {
    Elf64_Ehdr header = {};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_entry = 0x1000000;
    header.e_phoff = sizeof header;
    header.e_phnum = 3;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_shoff = 0x5000;
    header.e_shnum = 9;
    Bytes kernel(0x3000);
    put(kernel, 0, header);
    put(kernel, sizeof header,
        Elf64_Phdr{PT_LOAD, PF_R | PF_X, 0x1000, 0x1000000, 0x1000000, 0x800, 0x800, 0x200000});
    put(kernel, sizeof header + sizeof(Elf64_Phdr), Elf64_Phdr{PT_NOTE, PF_R, 0x1000, 0, 0, 0x10, 0x10, 4});
    put(kernel, sizeof header + 2 * sizeof(Elf64_Phdr),
        Elf64_Phdr{PT_LOAD, PF_R | PF_W, 0x2000, 0x2000000, 0x2000000, 0x1000, 0x9000, 0x200000});
    std::fill_n(kernel.begin() + 0x1000, 0x800, std::byte{0xAB});
    kernel[0x2010] = std::byte{0xCD};
    return kernel;
}

Bytes compressed(const Bytes& contents) {
    Bytes stream(contents.size() + 64 * 1024);
    std::size_t used = 0;
    archive* const writer = archive_write_new();
    archive_write_add_filter_xz(writer);
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

// A bzImage with this payload, followed by the size that the kernel's build appends.
Bytes bzimage(const Bytes& payload, std::uint32_t unpacked_size) {
    constexpr std::size_t protected_mode = 3 * 512;
    Bytes image(protected_mode + 0x100);
    put<std::uint8_t>(image, 0x1F1, 2);
    put<std::uint16_t>(image, 0x1FE, 0xAA55);
    put<std::uint32_t>(image, 0x202, 0x53726448);
    put<std::uint16_t>(image, 0x206, 0x20F);
    put<std::uint32_t>(image, 0x248, 0x100);
    put<std::uint32_t>(image, 0x24C, static_cast<std::uint32_t>(payload.size() + 4));
    image.insert(image.end(), payload.begin(), payload.end());
    put<std::uint32_t>(image, image.size(), unpacked_size);
    return image;
}

Bytes good_bzimage() {
    const Bytes kernel = elf_kernel();
    return bzimage(compressed(kernel), static_cast<std::uint32_t>(kernel.size()));
}

TEST(GuestKernel, KindsAreTold) {
    EXPECT_EQ(kernel_kind(good_bzimage()), KernelKind::linux_bzimage);
    EXPECT_EQ(kernel_kind(elf_kernel()), KernelKind::linux_elf64);
    EXPECT_EQ(kernel_kind(Bytes(10000)), std::nullopt);
    EXPECT_EQ(kernel_kind({}), std::nullopt);
}

TEST(GuestKernel, AMultibootHeaderMustSumUpAndLieInTheFirst8192Bytes) {
    const auto with_header = [](std::size_t offset, std::uint32_t checksum_error) {
        Bytes file(20000);
        put<std::uint32_t>(file, offset, 0x1BADB002);
        put<std::uint32_t>(file, offset + 4, 3);
        put<std::uint32_t>(file, offset + 8, 0U - 0x1BADB002U - 3U + checksum_error);
        return file;
    };
    EXPECT_EQ(kernel_kind(with_header(4096, 0)), KernelKind::multiboot1);
    EXPECT_EQ(kernel_kind(with_header(8180, 0)), KernelKind::multiboot1);
    EXPECT_EQ(kernel_kind(with_header(8184, 0)), std::nullopt);
    EXPECT_EQ(kernel_kind(with_header(4098, 0)), std::nullopt);
    EXPECT_EQ(kernel_kind(with_header(4096, 1)), std::nullopt);
}

TEST(GuestKernel, TheKernelInsideABzimageComesOutWhole) {
    const auto kernel = uncompressed_kernel(good_bzimage());
    ASSERT_TRUE(kernel.has_value()) << kernel.error().message;
    EXPECT_EQ(*kernel, elf_kernel());
}

TEST(GuestKernel, EveryTruncationOfABzimageIsRefused) {
    const Bytes image = good_bzimage();
    for (std::size_t size = 0; size < image.size(); ++size) {
        EXPECT_FALSE(uncompressed_kernel(std::span{image}.first(size)).has_value()) << size;
    }
}

TEST(GuestKernel, PayloadsOutsideTheFileAreRefused) {
    constexpr std::uint32_t most = std::numeric_limits<std::uint32_t>::max();
    for (const std::uint32_t offset : {most, most - 1535, 0x80000000U, 0x10000U}) {
        Bytes image = good_bzimage();
        put<std::uint32_t>(image, 0x248, offset);
        EXPECT_FALSE(bzimage_payload(image).has_value()) << offset;
    }
    for (const std::uint32_t length : {0U, most, most - 0x700, 0x10000U}) {
        Bytes image = good_bzimage();
        put<std::uint32_t>(image, 0x24C, length);
        EXPECT_FALSE(bzimage_payload(image).has_value()) << length;
    }
}

TEST(GuestKernel, ABootProtocolWithoutPayloadIsRefusedByItsNumber) {
    Bytes image = good_bzimage();
    put<std::uint16_t>(image, 0x206, 0x207);
    const auto payload = bzimage_payload(image);
    ASSERT_FALSE(payload.has_value());
    EXPECT_NE(payload.error().message.find("2.07"), std::string::npos);
}

TEST(GuestKernel, APayloadThatIsNotAKernelIsRefused) {
    const Bytes zeros(5000);
    EXPECT_FALSE(uncompressed_kernel(bzimage(compressed(zeros), 5000)).has_value());
    EXPECT_FALSE(uncompressed_kernel(bzimage(zeros, 5000)).has_value());
}

TEST(GuestKernel, AWrongSizeBehindThePayloadIsRefused) {
    const Bytes kernel = elf_kernel();
    EXPECT_FALSE(
        uncompressed_kernel(bzimage(compressed(kernel), static_cast<std::uint32_t>(kernel.size()) + 1))
            .has_value());
}

TEST(CompactElf64, KeepsWhatIsLoadedAndDropsTheRest) {
    const auto compact = compact_elf64(elf_kernel());
    ASSERT_TRUE(compact.has_value());
    Elf64_Ehdr header;
    std::memcpy(&header, compact->data(), sizeof header);
    EXPECT_EQ(header.e_entry, 0x1000000U);
    EXPECT_EQ(header.e_phnum, 3);
    EXPECT_EQ(header.e_shnum, 0);
    Elf64_Phdr segments[3];
    std::memcpy(segments, compact->data() + header.e_phoff, sizeof segments);
    EXPECT_EQ(segments[0].p_filesz, 0x800U);
    EXPECT_EQ(segments[2].p_filesz, 0x11U);
    EXPECT_EQ(segments[2].p_memsz, 0x9000U);
    EXPECT_EQ(segments[2].p_paddr, 0x2000000U);
    EXPECT_EQ((*compact)[segments[0].p_offset + 0x7FF], std::byte{0xAB});
    EXPECT_EQ((*compact)[segments[2].p_offset + 0x10], std::byte{0xCD});
}

TEST(CompactElf64, NotesInsideALoadedSegmentGoWithIt) {
    Bytes kernel = elf_kernel();
    const std::size_t note = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr);
    put<std::uint64_t>(kernel, note + offsetof(Elf64_Phdr, p_offset), 0x1700);
    const auto compact = compact_elf64(kernel);
    ASSERT_TRUE(compact.has_value());
    Elf64_Phdr segments[2];
    std::memcpy(segments, compact->data() + sizeof(Elf64_Ehdr), sizeof segments);
    EXPECT_EQ(segments[1].p_type, std::uint32_t{PT_NOTE});
    EXPECT_EQ(segments[1].p_offset, segments[0].p_offset + 0x700);
    EXPECT_EQ(segments[1].p_filesz, 0x10U);
    EXPECT_EQ(segments[1].p_align, 4U);

    // Outside of what is loaded, or half outside: dropped, not pointed at other bytes.
    for (const std::uint64_t offset : {0x100ULL, 0x17F8ULL, 0x1FF8ULL, 0x2008ULL, ~0ULL}) {
        put<std::uint64_t>(kernel, note + offsetof(Elf64_Phdr, p_offset), offset);
        const auto without = compact_elf64(kernel);
        ASSERT_TRUE(without.has_value());
        Elf64_Ehdr header;
        std::memcpy(&header, without->data(), sizeof header);
        EXPECT_EQ(header.e_phnum, 2) << offset;
    }
}

TEST(CompactElf64, HostileHeadersAreRefused) {
    constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
    const std::size_t first = sizeof(Elf64_Ehdr);
    struct Case {
        std::size_t offset;
        std::uint64_t value;
    };
    for (const Case& each :
         {Case{offsetof(Elf64_Ehdr, e_phoff), most}, Case{offsetof(Elf64_Ehdr, e_phoff), most - 55},
          Case{offsetof(Elf64_Ehdr, e_phoff), 0x2FF0}, Case{first + offsetof(Elf64_Phdr, p_offset), most},
          Case{first + offsetof(Elf64_Phdr, p_offset), 0x2900},
          Case{first + offsetof(Elf64_Phdr, p_filesz), most},
          Case{first + offsetof(Elf64_Phdr, p_memsz), 0x7FF}}) {
        Bytes kernel = elf_kernel();
        put(kernel, each.offset, each.value);
        EXPECT_FALSE(compact_elf64(kernel).has_value()) << each.offset << " " << each.value;
    }
    Bytes without_segments = elf_kernel();
    put<Elf64_Half>(without_segments, offsetof(Elf64_Ehdr, e_phnum), 0);
    EXPECT_FALSE(compact_elf64(without_segments).has_value());
    EXPECT_FALSE(compact_elf64({}).has_value());
}

}  // namespace
}  // namespace flatback::tools::guest_kernel_test
