#include "screen/framebuffer.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>
#include <vector>

namespace flatback::screen::framebuffer_test {
namespace {

// As a Multiboot loader gives it.
struct Given {
    std::uint64_t address = 0xFD000000;
    std::uint32_t pitch = 4096;
    std::uint32_t width = 1024;
    std::uint32_t height = 768;
    std::uint8_t depth = 32;
    std::uint8_t type = 1;
    std::array<std::uint8_t, 6> colours{16, 8, 8, 8, 0, 8};

    [[nodiscard]] std::vector<std::byte> bytes(MultibootVersion version) const {
        std::vector<std::byte> all;
        const auto add = [&all](const auto& value) {
            const auto* const from = reinterpret_cast<const std::byte*>(&value);
            all.insert(all.end(), from, from + sizeof value);
        };
        add(address), add(pitch), add(width), add(height), add(depth), add(type);
        if (version == MultibootVersion::two) add(std::uint16_t{0});
        add(colours);
        return all;
    }
    [[nodiscard]] std::optional<Framebuffer> parsed(MultibootVersion version = MultibootVersion::two) const {
        return parse_framebuffer(bytes(version), version);
    }
};

TEST(Framebuffer, IsReadInBothVersionsOfMultiboot) {
    for (const MultibootVersion version : {MultibootVersion::one, MultibootVersion::two}) {
        const auto screen = Given{}.parsed(version);
        ASSERT_TRUE(screen);
        EXPECT_EQ(screen->kind, ScreenKind::pixels);
        EXPECT_EQ(screen->address, 0xFD000000U);
        EXPECT_EQ(screen->width, 1024U);
        EXPECT_EQ(screen->pixel_size, 4);
        EXPECT_EQ(screen->red_at, 16);
        EXPECT_EQ(screen->blue_bits, 8);
        EXPECT_EQ(screen->size(), 4096U * 768);
    }
}

TEST(Framebuffer, VgaTextHasTwoBytesACharacterAndNoColours) {
    Given given{.address = 0xB8000, .pitch = 160, .width = 80, .height = 25, .depth = 16, .type = 2};
    auto bytes = given.bytes(MultibootVersion::one);
    bytes.resize(22);
    const auto screen = parse_framebuffer(bytes, MultibootVersion::one);
    ASSERT_TRUE(screen);
    EXPECT_EQ(screen->kind, ScreenKind::vga_text);
    EXPECT_EQ(screen->size(), 4000U);
}

// Each would have L0 write where no screen is.
TEST(Framebuffer, WhatCannotBeWrittenToIsNone) {
    EXPECT_FALSE((Given{.address = 0}.parsed()));
    EXPECT_FALSE((Given{.pitch = 4092}.parsed()));  // rows overlap
    EXPECT_FALSE((Given{.width = 0}.parsed()));
    EXPECT_FALSE((Given{.height = 0}.parsed()));
    EXPECT_FALSE((Given{.height = 0xFFFFFFFF}.parsed()));
    EXPECT_FALSE((Given{.depth = 8}.parsed()));
    EXPECT_FALSE((Given{.type = 0}.parsed()));  // colours by an index
    EXPECT_FALSE((Given{.colours = {28, 8, 8, 8, 0, 8}}.parsed()));
    EXPECT_FALSE((Given{.colours = {16, 0, 8, 8, 0, 8}}.parsed()));
    EXPECT_FALSE((Given{.address = 0xFFFFFFFFFFF00000}.parsed()));  // wraps around
    EXPECT_FALSE((Given{.pitch = 159, .width = 80, .height = 25, .type = 2}.parsed()));
}

TEST(Framebuffer, EveryTruncationIsNone) {
    const auto bytes = Given{}.bytes(MultibootVersion::two);
    for (std::size_t size = 0; size < bytes.size(); ++size)
        EXPECT_FALSE(parse_framebuffer(std::span{bytes}.first(size), MultibootVersion::two)) << size;
}

}  // namespace
}  // namespace flatback::screen::framebuffer_test
