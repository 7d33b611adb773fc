#include "formats/multiboot1.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace flatback::formats::multiboot1_test {
namespace {

std::vector<std::byte> file_with_header(std::uint64_t at, std::uint32_t flags, std::size_t size = 16384) {
    std::vector<std::byte> file(size);
    EXPECT_TRUE(write(file, at, Multiboot1Header::magic));
    EXPECT_TRUE(write(file, at + 4, flags));
    EXPECT_TRUE(write(file, at + 8, 0U - Multiboot1Header::magic - flags));
    return file;
}

TEST(Multiboot1, TheHeaderLiesInTheFirst8192Bytes) {
    EXPECT_EQ(find_multiboot1_header(file_with_header(8180, 3))->offset, 8180U);
    EXPECT_FALSE(find_multiboot1_header(file_with_header(8184, 3)));
    EXPECT_FALSE(find_multiboot1_header(file_with_header(2, 3)));  // not on a multiple of 4
    auto file = file_with_header(0, 3);
    file[8] ^= std::byte{1};
    EXPECT_FALSE(find_multiboot1_header(file));
}

TEST(Multiboot1, OnlyThreeDemandsAreDefined) {
    EXPECT_FALSE(find_multiboot1_header(file_with_header(0, 7))->has_unknown_demands());
    EXPECT_TRUE(find_multiboot1_header(file_with_header(0, 8))->has_unknown_demands());
    EXPECT_TRUE(find_multiboot1_header(file_with_header(0, 1U << 15))->has_unknown_demands());
    EXPECT_FALSE(find_multiboot1_header(file_with_header(0, 1U << 17))->has_unknown_demands());
}

TEST(Multiboot1, AHeaderWithAddressesIsWhole) {
    constexpr std::uint32_t flags = Multiboot1Header::has_addresses;
    EXPECT_TRUE(find_multiboot1_header(file_with_header(0, flags, 32)));
    EXPECT_FALSE(find_multiboot1_header(file_with_header(0, flags, 31)));
}

TEST(Multiboot1, TheAddressesNameAPieceOfTheFile) {
    const std::vector<std::byte> file(0x1000);
    Multiboot1Header header{.offset = 0x100, .flags = Multiboot1Header::has_addresses};
    header.header_address = 0x10'0080;
    header.load_address = 0x10'0000;
    EXPECT_EQ(multiboot1_piece(header, file), (Multiboot1Piece{0x80, 0xF80, 0x10'0F80}));
    header.load_end_address = 0x10'0800;
    header.bss_end_address = 0x20'0000;
    EXPECT_EQ(multiboot1_piece(header, file), (Multiboot1Piece{0x80, 0x800, 0x20'0000}));
    header.load_end_address = 0x10'0F81;  // behind the file
    EXPECT_FALSE(multiboot1_piece(header, file));
    header.load_end_address = 0x10'0000;  // nothing
    EXPECT_FALSE(multiboot1_piece(header, file));
    header.load_end_address = 0x10'0800;
    header.bss_end_address = 0x10'07FF;  // before what the file fills
    EXPECT_FALSE(multiboot1_piece(header, file));
    header.bss_end_address = 0;
    header.load_address = 0x10'0081;  // behind the header
    EXPECT_FALSE(multiboot1_piece(header, file));
    header.load_address = 0x0F'FF7F;  // before the file
    EXPECT_FALSE(multiboot1_piece(header, file));
}

}  // namespace
}  // namespace flatback::formats::multiboot1_test
