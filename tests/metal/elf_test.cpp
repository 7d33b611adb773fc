#include "metal/load/elf.hpp"

#include <gtest/gtest.h>

#include <random>

#include "test_elf.hpp"

namespace flatback::metal::elf_test {
namespace {

constexpr std::size_t program_headers_64 = 64;

TestBytes contents() {
    TestBytes bytes(16);
    bytes.put<std::uint64_t>(8, 0x1122334455667788);
    return bytes;
}

std::string_view error_of(const TestBytes& elf) {
    const auto image = parse_elf(elf.view());
    return image ? "" : image.error().what;
}

TEST(Elf, BothClassesGiveTheirSegments) {
    const TestBytes data = contents();
    const std::vector<TestSegment> segments = {{0x100000, data.view(), 0x2000, 0xC0100000},
                                               {0x200000, {}, 0x1000}};
    for (const TestBytes& elf : {make_elf32(0x100004, segments), make_elf64(0x100004, segments)}) {
        const auto image = parse_elf(elf.view());
        ASSERT_TRUE(image) << image.error().what;
        EXPECT_EQ(image->entry, 0x100004u);
        ASSERT_EQ(image->segments.size(), 2u);
        EXPECT_EQ(image->segments[0].memory, (PhysicalRange{0x100000, 0x102000}));
        EXPECT_EQ(image->segments[0].linear, 0xC0100000u);
        EXPECT_EQ(image->segments[0].file_offset, 0x1000u);
        EXPECT_EQ(image->segments[0].file_size, 16u);
        EXPECT_EQ(image->segments[1].file_size, 0u);
    }
    EXPECT_FALSE(parse_elf(make_elf32(0x100004, segments).view())->is_64_bit);
    EXPECT_TRUE(parse_elf(make_elf64(0x100004, segments).view())->is_64_bit);
}

TEST(Elf, OnlyLoadSegmentsWithASizeCount) {
    const TestBytes elf = make_elf64(0, {{0x1000, {}, 0x1000, 0, 4}, {0x2000, {}, 0}, {0x3000, {}, 0x10}});
    const auto image = parse_elf(elf.view());
    ASSERT_TRUE(image);
    ASSERT_EQ(image->segments.size(), 1u);
    EXPECT_EQ(image->segments[0].memory.start, 0x3000u);
    EXPECT_EQ(error_of(make_elf64(0, {{0x1000, {}, 0x1000, 0, 4}})), "the ELF image has no segment to load");
}

TEST(Elf, TheEntryMayBePhysicalOrLinear) {
    const std::vector<TestSegment> segments = {{0x100000, {}, 0x1000, 0xFFFFFFFF81000000}};
    const auto entry = [&](std::uint64_t value) {
        return parse_elf(make_elf64(value, segments).view())->physical_entry();
    };
    EXPECT_EQ(entry(0x100010), 0x100010u);
    EXPECT_EQ(entry(0xFFFFFFFF81000010), 0x100010u);
    EXPECT_EQ(entry(0x101000), std::nullopt);
    EXPECT_EQ(entry(0xFFFFFFFF81001000), std::nullopt);
    EXPECT_EQ(entry(0), std::nullopt);
}

TEST(Elf, EveryTruncationIsRefused) {
    const TestBytes data = contents();
    const TestBytes whole = make_elf32(0x100000, {{0x100000, data.view(), 0x1000}});
    ASSERT_EQ(error_of(whole), "");
    for (std::size_t size = 0; size < whole.size(); ++size) {
        TestBytes cut = whole;
        cut.resize(size);
        EXPECT_FALSE(parse_elf(cut.view())) << size;
    }
}

TEST(Elf, SegmentsOutsideOfTheFileAreRefused) {
    const TestBytes data = contents();
    TestBytes elf = make_elf64(0, {{0x100000, data.view(), 0x1000}});
    for (const std::uint64_t offset : {std::uint64_t{0x1001}, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
        elf.put(program_headers_64 + 8, offset);
        EXPECT_EQ(error_of(elf), "a segment of the ELF image reaches past the end of the file, at");
    }
}

TEST(Elf, ASegmentLargerInTheFileThanInMemoryIsRefused) {
    const TestBytes data = contents();
    EXPECT_EQ(error_of(make_elf64(0, {{0x100000, data.view(), 15}})),
              "a segment of the ELF image is larger in the file than in memory at");
}

TEST(Elf, ASegmentThatWrapsIsRefused) {
    EXPECT_EQ(error_of(make_elf64(0, {{0xFFFFFFFFFFFFF000, {}, 0x2000}})),
              "a segment of the ELF image wraps around the address space at");
}

TEST(Elf, ProgramHeadersOutsideOfTheFileAreRefused) {
    TestBytes elf = make_elf64(0, {{0x100000, {}, 0x1000}});
    TestBytes moved = elf;
    moved.put<std::uint64_t>(32, ~std::uint64_t{0} - 8);
    EXPECT_EQ(error_of(moved), "the ELF image's program headers reach past the end of the file");
    TestBytes many = elf;
    many.put<std::uint16_t>(56, 0xFFFF);
    EXPECT_EQ(error_of(many), "the ELF image's program headers reach past the end of the file");
    TestBytes small = elf;
    small.put<std::uint16_t>(54, 55);
    EXPECT_EQ(error_of(small), "the ELF image's program headers have a wrong size");
}

TEST(Elf, TooManySegmentsAreRefused) {
    std::vector<TestSegment> segments(ElfImage::most_segments, {0x1000, {}, 0x1000});
    EXPECT_EQ(error_of(make_elf64(0, segments)), "");
    segments.push_back({0x1000, {}, 0x1000});
    EXPECT_EQ(error_of(make_elf64(0, segments)), "the ELF image has too many segments; most is");
}

TEST(Elf, OtherMachinesAndKindsAreRefused) {
    TestBytes elf = make_elf64(0, {{0x1000, {}, 0x1000}});
    TestBytes arm = elf;
    arm.put<std::uint16_t>(18, 183);
    EXPECT_EQ(error_of(arm), "the L1 image is not an ELF file for x86");
    TestBytes big_endian = elf;
    big_endian.put<std::uint8_t>(5, 2);
    EXPECT_EQ(error_of(big_endian), "the L1 image is not an ELF file for x86");
    TestBytes shared_object = elf;
    shared_object.put<std::uint16_t>(16, 3);
    EXPECT_EQ(error_of(shared_object),
              "the ELF image is not an executable linked to fixed addresses, so it is no kernel");
}

TEST(Elf, RandomDamageNeverReadsOutside) {
    const TestBytes data = contents();
    const TestBytes whole = make_elf64(0x100000, {{0x100000, data.view(), 0x1000}, {0x200000, {}, 0x1000}});
    std::mt19937 random{3};
    for (int round = 0; round < 20000; ++round) {
        TestBytes damaged = whole;
        for (auto flips = 1 + random() % 4; flips > 0; --flips) {
            damaged.put(random() % 0xB0, static_cast<std::uint8_t>(random()));
        }
        const auto image = parse_elf(damaged.view());
        if (!image) continue;
        for (const ElfSegment& segment : image->segments.items()) {
            EXPECT_TRUE(slice(damaged.view(), segment.file_offset, segment.file_size));
            EXPECT_LE(segment.file_size, segment.memory.size());
            EXPECT_LT(segment.memory.start, segment.memory.end);
        }
    }
}

}  // namespace
}  // namespace flatback::metal::elf_test
