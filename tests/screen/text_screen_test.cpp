#include "screen/text_screen.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace flatback::screen::text_screen_test {
namespace {

Framebuffer pixels(std::uint32_t width, std::uint32_t height) {
    return {.kind = ScreenKind::pixels,
            .address = 0x1000,
            .pitch = width * 4 + 64,
            .width = width,
            .height = height,
            .pixel_size = 4,
            .red_at = 16,
            .red_bits = 8,
            .green_at = 8,
            .green_bits = 8,
            .blue_at = 0,
            .blue_bits = 8};
}
constexpr Framebuffer vga{.kind = ScreenKind::vga_text,
                          .address = 0xB8000,
                          .pitch = 160,
                          .width = 80,
                          .height = 25,
                          .pixel_size = 2};

// A screen whose memory is exactly as large as it says: the sanitizer sees a write behind it.
struct Shown {
    Framebuffer framebuffer;
    std::vector<std::byte> memory;
    std::unique_ptr<TextScreen> screen = std::make_unique<TextScreen>();

    explicit Shown(const Framebuffer& given) : framebuffer{given}, memory(given.size(), std::byte{0xEE}) {
        screen->start(framebuffer, memory.data());
    }
    [[nodiscard]] bool lit(std::uint32_t x, std::uint32_t y) const {
        const std::size_t at = std::size_t{y} * framebuffer.pitch + std::size_t{x} * framebuffer.pixel_size;
        return memory[at] != std::byte{0} || memory[at + 1] != std::byte{0};
    }
    // The character there, by its picture; '!' where it is none.
    [[nodiscard]] char at(std::uint32_t row, std::uint32_t column) const {
        if (framebuffer.kind == ScreenKind::vga_text)
            return static_cast<char>(memory[std::size_t{row} * framebuffer.pitch + 2 * column]);
        const std::uint32_t scale = screen->scale();
        for (char character = ' '; character <= '~'; ++character) {
            bool same = true;
            for (std::uint32_t y = 0; same && y < TextScreen::font_height * scale; ++y)
                for (std::uint32_t x = 0; x < TextScreen::font_width * scale; ++x)
                    same = same && lit(column * TextScreen::font_width * scale + x,
                                       row * TextScreen::font_height * scale + y) ==
                                       ((glyph(character)[y / scale] >> (7 - x / scale) & 1) != 0);
            if (same) return character;
        }
        return '\0';
    }
    [[nodiscard]] std::string row(std::uint32_t number, std::uint32_t columns) const {
        std::string text;
        for (std::uint32_t column = 0; column < columns; ++column) text += at(number, column);
        return text;
    }
};

TEST(Glyphs, DifferFromEachOtherAndTheBlankIsBlank) {
    for (char one = ' '; one < '~'; ++one)
        for (char other = static_cast<char>(one + 1); other <= '~'; ++other)
            EXPECT_FALSE(std::equal(glyph(one), glyph(one) + 16, glyph(other))) << one << other;
    for (unsigned row = 0; row < 16; ++row) EXPECT_EQ(glyph(' ')[row], 0);
    // An I stands upright, and alike on both sides; an L does not.
    EXPECT_EQ(glyph('\x7F'), glyph('?'));
}

TEST(TextScreen, ShowsTextOnPixelsAndOnVga) {
    for (const Framebuffer& framebuffer : {pixels(800, 600), vga}) {
        Shown shown{framebuffer};
        shown.screen->write("L0: 42 {ok}\nnext\x01 \x80");
        EXPECT_EQ(shown.row(0, 12), "L0: 42 {ok} ");
        EXPECT_EQ(shown.row(1, 8), "next ?  ");
        EXPECT_EQ(shown.row(2, 3), "   ");
    }
}

TEST(TextScreen, ALongLineGoesOnInTheNextRow) {
    Shown shown{vga};
    shown.screen->write(std::string(80, 'a') + "bc");
    EXPECT_EQ(shown.row(0, 80), std::string(80, 'a'));
    EXPECT_EQ(shown.row(1, 3), "bc ");
}

TEST(TextScreen, ScrollsByOneRow) {
    for (const Framebuffer& framebuffer : {pixels(320, 80), vga}) {
        Shown shown{framebuffer};
        const std::uint32_t rows = shown.screen->rows();
        for (std::uint32_t line = 0; line < rows + 2; ++line)
            shown.screen->write("line " + std::to_string(line) + "\n");
        EXPECT_EQ(shown.row(0, 7), "line 3 ");
        EXPECT_EQ(shown.row(rows - 2, 9).substr(0, 5 + std::to_string(rows + 1).size()),
                  "line " + std::to_string(rows + 1));
        EXPECT_EQ(shown.row(rows - 1, 7), "       ");
    }
}

TEST(TextScreen, IsLegibleAtAnyResolution) {
    for (const auto& [width, height] : {std::pair{640U, 480U},
                                        {800U, 600U},
                                        {1024U, 768U},
                                        {1366U, 768U},
                                        {1920U, 1080U},
                                        {2560U, 1440U},
                                        {3840U, 2160U},
                                        {7680U, 4320U}}) {
        Shown shown{pixels(width, height)};
        EXPECT_GE(shown.screen->columns(), 80U) << width;
        EXPECT_GE(shown.screen->rows(), 30U) << width;
        EXPECT_LE(shown.screen->columns(), TextScreen::most_columns);
        // A character is no smaller than the 270th part of the height.
        EXPECT_GE(TextScreen::font_height * shown.screen->scale() * 90, height) << height;
        shown.screen->write("x");
        EXPECT_EQ(shown.at(0, 0), 'x');
    }
}

// The margin between the end of a row and the pitch is not the screen's.
TEST(TextScreen, TouchesNothingBesidesTheScreen) {
    Shown shown{pixels(640, 64)};
    for (int line = 0; line < 10; ++line) shown.screen->write(std::string(200, '#') + "\n");
    for (std::uint32_t y = 0; y < 64; ++y)
        for (std::uint32_t at = 640 * 4; at < shown.framebuffer.pitch; ++at)
            EXPECT_EQ(shown.memory[std::size_t{y} * shown.framebuffer.pitch + at], std::byte{0xEE});
}

TEST(TextScreen, ColoursAreWhereTheScreenHasThem) {
    Framebuffer framebuffer = pixels(640, 480);
    framebuffer.pixel_size = 2;
    framebuffer.red_at = 11;
    framebuffer.red_bits = 5;
    framebuffer.green_at = 5;
    framebuffer.green_bits = 6;
    framebuffer.blue_bits = 5;
    Shown shown{framebuffer};
    shown.screen->write("#", Colour::bad);
    std::uint16_t brightest = 0;
    for (std::uint32_t y = 0; y < 16; ++y)
        for (std::uint32_t x = 0; x < 8; ++x) {
            const std::size_t at = std::size_t{y} * framebuffer.pitch + std::size_t{x} * 2;
            brightest = std::max(
                brightest, static_cast<std::uint16_t>(static_cast<unsigned>(shown.memory[at]) |
                                                      static_cast<unsigned>(shown.memory[at + 1]) << 8));
        }
    // Red FFH, green and blue 60H, of 5, 6 and 5 bits.
    EXPECT_EQ(brightest, 31U << 11 | (0x60U >> 2) << 5 | 0x60U >> 3);
}

TEST(TextScreen, ARectangleIsFilledAsFarAsItLiesOnTheScreen) {
    Shown shown{pixels(64, 32)};
    shown.screen->fill(10, 5, 3, 2, true);
    for (std::uint32_t y = 0; y < 32; ++y)
        for (std::uint32_t x = 0; x < 64; ++x)
            EXPECT_EQ(shown.lit(x, y), x >= 10 && x < 13 && y >= 5 && y < 7) << x << ", " << y;
    shown.screen->fill(60, 30, ~0U, ~0U, true);
    shown.screen->fill(~0U, ~0U, ~0U, ~0U, true);
    EXPECT_TRUE(shown.lit(63, 31));
    EXPECT_FALSE(shown.lit(59, 31));
    shown.screen->fill(0, 0, 64, 32, false);
    EXPECT_FALSE(shown.lit(63, 31));
    Shown text{vga};
    const auto before = text.memory;
    text.screen->fill(0, 0, 10, 10, true);
    EXPECT_EQ(text.memory, before);
}

TEST(TextScreen, AScreenOfLessThanACharacterIsNone) {
    Shown shown{pixels(7, 600)};
    EXPECT_FALSE(shown.screen->started());
    shown.screen->write("nothing happens\n");
}

}  // namespace
}  // namespace flatback::screen::text_screen_test
