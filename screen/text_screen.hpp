// Lines of text on a screen.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "screen/framebuffer.hpp"

namespace flatback::screen {

enum class Colour : std::uint8_t { normal, bright, good, bad };

// Its memory is some 60 KB: a static object. Characters are those of ASCII; others show as '?'. On pixels a
// character is 8 by 16 of them, or a multiple where the screen is large: a screen has 100 columns or more as
// long as it is 800 pixels wide.
class TextScreen final {
public:
    static constexpr std::uint32_t font_width = 8;
    static constexpr std::uint32_t font_height = 16;
    static constexpr std::uint32_t most_columns = 240;
    static constexpr std::uint32_t most_rows = 120;

    // `memory`: where the framebuffer's bytes can be written now. Clears the screen.
    void start(const Framebuffer& framebuffer, volatile std::byte* memory);
    // The same bytes at another address.
    void move(volatile std::byte* memory) { memory_ = memory; }
    [[nodiscard]] bool started() const { return memory_ != nullptr; }

    // '\n' ends a line, other control characters are left out; a line that is too long goes on in the next.
    void write(std::string_view text, Colour colour = Colour::normal);
    void clear();
    // A rectangle of pixels, white or black, as far as it lies on the screen, over the text that is there. On
    // VGA text nothing happens.
    void fill(std::uint32_t x, std::uint32_t y, std::uint32_t width, std::uint32_t height, bool white);

    // Pixels; on VGA text characters.
    [[nodiscard]] std::uint32_t width() const { return framebuffer_.width; }
    [[nodiscard]] std::uint32_t height() const { return framebuffer_.height; }
    [[nodiscard]] bool has_pixels() const { return framebuffer_.kind == ScreenKind::pixels; }
    [[nodiscard]] std::uint32_t columns() const { return columns_; }
    [[nodiscard]] std::uint32_t rows() const { return rows_; }
    [[nodiscard]] std::uint32_t scale() const { return scale_; }

private:
    struct Cell {
        char character = ' ';
        Colour colour = Colour::normal;
        friend bool operator==(const Cell&, const Cell&) = default;
    };

    [[nodiscard]] Cell& cell(std::uint32_t row, std::uint32_t column) {
        return cells_[row * most_columns + column];
    }
    void put(std::uint32_t row, std::uint32_t column, Cell wanted);
    void draw(std::uint32_t row, std::uint32_t column, Cell shown);
    void put_pixel(std::uint64_t at, std::uint32_t pixel);
    [[nodiscard]] std::uint32_t pixel_of(std::uint32_t rgb) const;
    void new_line();

    Framebuffer framebuffer_{};
    volatile std::byte* memory_ = nullptr;
    std::uint32_t columns_ = 0;
    std::uint32_t rows_ = 0;
    std::uint32_t scale_ = 1;
    std::uint32_t row_ = 0;
    std::uint32_t column_ = 0;
    std::array<Cell, std::size_t{most_columns} * most_rows> cells_{};
};

// The rows of a character's picture, from the top, the left pixel in bit 7. Made from the font at build time.
[[nodiscard]] const std::uint8_t* glyph(char character);

}  // namespace flatback::screen
