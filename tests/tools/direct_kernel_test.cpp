#include "tools/direct_kernel.hpp"

#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>

namespace flatback::tools {
namespace {

template <typename T>
void put(Bytes& bytes, std::size_t offset, T value) {
    std::memcpy(bytes.data() + offset, &value, sizeof value);
}

template <typename T>
T get(const Bytes& bytes, std::size_t offset) {
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

constexpr std::size_t setup_bytes = 3 * 512;
constexpr std::size_t first_segment = sizeof(Elf64_Ehdr);
constexpr std::size_t second_segment = first_segment + sizeof(Elf64_Phdr);

Bytes bzimage() {
    Bytes image(setup_bytes + 4096);
    put<std::uint8_t>(image, 0x1F1, 2);
    put<std::uint16_t>(image, 0x1FE, 0xAA55);
    put<std::uint32_t>(image, 0x202, 0x53726448);
    put<std::uint16_t>(image, 0x206, 0x20F);
    put<std::uint16_t>(image, 0x236, 0x7F);
    put<std::uint32_t>(image, 0x248, 0x100);
    image[0x3FF] = std::byte{0x77};
    return image;
}

// Two segments with a hole between them, and memory behind the second.
Bytes kernel() {
    Bytes file(0x3000);
    Elf64_Ehdr header = {};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_entry = 0x1000000;
    header.e_phoff = sizeof header;
    header.e_phnum = 2;
    put(file, 0, header);
    put(file, first_segment, Elf64_Phdr{PT_LOAD, PF_R | PF_X, 0x1000, 0, 0x1000000, 0x800, 0x800, 0x1000});
    put(file, second_segment, Elf64_Phdr{PT_LOAD, PF_R | PF_W, 0x2000, 0, 0x1005000, 0x10, 0x9000, 0x1000});
    file[0x1000] = std::byte{0xAB};
    file[0x17FF] = std::byte{0xBC};
    file[0x200F] = std::byte{0xCD};
    return file;
}

const Bytes entry{std::byte{0xFC}, std::byte{0xF4}};

TEST(UncompressedBzimage, EachSegmentLiesWhereItRunsWhenTheLoaderHonoursTheHeader) {
    const auto image = uncompressed_bzimage(bzimage(), kernel(), entry);
    ASSERT_TRUE(image.has_value()) << image.error().message;
    const auto preferred = get<std::uint64_t>(*image, 0x258);
    const auto at = [&](std::uint64_t address) { return (*image)[setup_bytes + (address - preferred)]; };
    EXPECT_EQ(at(preferred), entry[0]);
    EXPECT_EQ(at(preferred + 1), entry[1]);
    EXPECT_EQ(at(0x1000000), std::byte{0xAB});
    EXPECT_EQ(at(0x10007FF), std::byte{0xBC});
    EXPECT_EQ(at(0x1000800), std::byte{0});
    EXPECT_EQ(at(0x100500F), std::byte{0xCD});
    // Up to the end of the second segment in memory, which the loader must leave free.
    EXPECT_EQ(preferred + get<std::uint32_t>(*image, 0x260), 0x100E000U);
}

TEST(UncompressedBzimage, TheSetupPartStaysAndSaysWhatFollows) {
    const auto image = uncompressed_bzimage(bzimage(), kernel(), entry);
    ASSERT_TRUE(image.has_value());
    EXPECT_EQ((*image)[0x3FF], std::byte{0x77});
    EXPECT_EQ(get<std::uint32_t>(*image, 0x1F4) * 16U, image->size() - setup_bytes);
    EXPECT_EQ(get<std::uint8_t>(*image, 0x234), 1);
    EXPECT_EQ(1U << get<std::uint8_t>(*image, 0x235), get<std::uint32_t>(*image, 0x230));
    EXPECT_EQ(get<std::uint64_t>(*image, 0x258) % get<std::uint32_t>(*image, 0x230), 0U);
    EXPECT_EQ(get<std::uint16_t>(*image, 0x236), 0x7E);  // no 64-bit entry, whose place nothing is at
    EXPECT_EQ(get<std::uint32_t>(*image, 0x248), 0U);    // no compressed payload
}

TEST(UncompressedBzimage, DamagedFilesAreRefused) {
    const auto refused = [](const Bytes& image, const Bytes& elf, const Bytes& code = entry) {
        return !uncompressed_bzimage(image, elf, code).has_value();
    };
    EXPECT_TRUE(refused({}, kernel()));
    EXPECT_TRUE(refused(bzimage(), {}));
    EXPECT_TRUE(refused(kernel(), kernel()));
    EXPECT_TRUE(refused(bzimage(), kernel(), Bytes(0x8001)));
    Bytes old = bzimage();
    put<std::uint16_t>(old, 0x206, 0x209);
    EXPECT_TRUE(refused(old, kernel()));
    Bytes large_setup = bzimage();
    put<std::uint8_t>(large_setup, 0x1F1, 200);
    EXPECT_TRUE(refused(large_setup, kernel()));
    for (const std::uint64_t address : {0ULL, 0xFFFFFFULL, 0x1'0000'0000ULL, ~0ULL}) {
        Bytes elsewhere = kernel();
        put(elsewhere, second_segment + offsetof(Elf64_Phdr, p_paddr), address);
        EXPECT_TRUE(refused(bzimage(), elsewhere)) << address;
    }
    Bytes large = kernel();
    put(large, second_segment + offsetof(Elf64_Phdr, p_memsz), ~0ULL);
    EXPECT_TRUE(refused(bzimage(), large));
    Bytes other_entry = kernel();
    put(other_entry, offsetof(Elf64_Ehdr, e_entry), std::uint64_t{0x1000100});
    EXPECT_TRUE(refused(bzimage(), other_entry));
}

}  // namespace
}  // namespace flatback::tools
