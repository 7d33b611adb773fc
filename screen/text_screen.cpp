#include "screen/text_screen.hpp"

#include <algorithm>

namespace flatback::screen {
namespace {

// Red, green and blue, 8 bits each.
constexpr std::array<std::uint32_t, 4> colours{0xC8C8C8, 0xFFFFFF, 0x60E060, 0xFF6060};
// VGA's attributes of the same: on black.
constexpr std::array<std::uint8_t, 4> attributes{0x07, 0x0F, 0x0A, 0x0C};

constexpr std::uint32_t least_columns = 100;
constexpr std::uint32_t least_rows = 36;

constexpr bool is_printable(char character) {
    return character >= ' ' && character <= '~';
}

}  // namespace

void TextScreen::start(const Framebuffer& framebuffer, volatile std::byte* memory) {
    framebuffer_ = framebuffer;
    memory_ = memory;
    scale_ = 1;
    if (framebuffer.kind == ScreenKind::vga_text) {
        columns_ = std::min(framebuffer.width, most_columns);
        rows_ = std::min(framebuffer.height, most_rows);
    } else {
        scale_ = std::max(1U, std::min(framebuffer.width / (font_width * least_columns),
                                       framebuffer.height / (font_height * least_rows)));
        columns_ = std::min(framebuffer.width / (font_width * scale_), most_columns);
        rows_ = std::min(framebuffer.height / (font_height * scale_), most_rows);
        // A screen of less than a character is none.
        if (columns_ == 0 || rows_ == 0) memory_ = nullptr;
    }
    clear();
}

void TextScreen::clear() {
    row_ = 0;
    column_ = 0;
    cells_.fill({});
    if (memory_ == nullptr) return;
    if (framebuffer_.kind == ScreenKind::pixels) {
        for (std::uint64_t y = 0; y < framebuffer_.height; ++y)
            for (std::uint64_t x = 0; x < framebuffer_.width; ++x)
                put_pixel(y * framebuffer_.pitch + x * framebuffer_.pixel_size, 0);
        return;
    }
    for (std::uint32_t row = 0; row < rows_; ++row)
        for (std::uint32_t column = 0; column < columns_; ++column) draw(row, column, {});
}

void TextScreen::fill(std::uint32_t x, std::uint32_t y, std::uint32_t width, std::uint32_t height,
                      bool white) {
    if (memory_ == nullptr || !has_pixels()) return;
    const std::uint32_t pixel = white ? pixel_of(0xFFFFFF) : 0;
    const std::uint64_t right = std::min<std::uint64_t>(std::uint64_t{x} + width, framebuffer_.width);
    const std::uint64_t bottom = std::min<std::uint64_t>(std::uint64_t{y} + height, framebuffer_.height);
    for (std::uint64_t row = y; row < bottom; ++row)
        for (std::uint64_t column = x; column < right; ++column)
            put_pixel(row * framebuffer_.pitch + column * framebuffer_.pixel_size, pixel);
}

void TextScreen::write(std::string_view text, Colour colour) {
    if (memory_ == nullptr) return;
    for (const char character : text) {
        if (character == '\n') {
            new_line();
            continue;
        }
        if (static_cast<unsigned char>(character) < ' ') continue;
        if (column_ == columns_) new_line();
        put(row_, column_, {is_printable(character) ? character : '?', colour});
        ++column_;
    }
}

// What moves up is drawn anew only where it differs from what was there.
void TextScreen::new_line() {
    column_ = 0;
    if (++row_ < rows_) return;
    row_ = rows_ - 1;
    for (std::uint32_t row = 0; row < rows_; ++row)
        for (std::uint32_t column = 0; column < columns_; ++column)
            put(row, column, row + 1 < rows_ ? cell(row + 1, column) : Cell{});
}

void TextScreen::put(std::uint32_t row, std::uint32_t column, Cell wanted) {
    Cell& shown = cell(row, column);
    if (shown == wanted) return;
    shown = wanted;
    draw(row, column, wanted);
}

void TextScreen::draw(std::uint32_t row, std::uint32_t column, Cell shown) {
    const auto colour = static_cast<std::size_t>(shown.colour);
    if (framebuffer_.kind == ScreenKind::vga_text) {
        const std::uint64_t at = std::uint64_t{row} * framebuffer_.pitch + std::uint64_t{column} * 2;
        memory_[at] = static_cast<std::byte>(shown.character);
        memory_[at + 1] = static_cast<std::byte>(attributes[colour]);
        return;
    }
    const std::uint32_t ink = pixel_of(colours[colour]);
    const std::uint8_t* const rows = glyph(shown.character);
    const std::uint64_t top = std::uint64_t{row} * font_height * scale_;
    const std::uint64_t left = std::uint64_t{column} * font_width * scale_;
    for (std::uint32_t y = 0; y < font_height * scale_; ++y) {
        const unsigned bits = rows[y / scale_];
        const std::uint64_t line = (top + y) * framebuffer_.pitch + left * framebuffer_.pixel_size;
        for (std::uint32_t x = 0; x < font_width * scale_; ++x)
            put_pixel(line + std::uint64_t{x} * framebuffer_.pixel_size,
                      (bits >> (font_width - 1 - x / scale_) & 1) != 0 ? ink : 0);
    }
}

void TextScreen::put_pixel(std::uint64_t at, std::uint32_t pixel) {
    for (unsigned i = 0; i < framebuffer_.pixel_size; ++i)
        memory_[at + i] = static_cast<std::byte>(pixel >> (8 * i));
}

std::uint32_t TextScreen::pixel_of(std::uint32_t rgb) const {
    const auto part = [](std::uint32_t value, std::uint8_t at, std::uint8_t bits) {
        // From 8 bits to as many as there are.
        const std::uint32_t scaled = bits >= 8 ? value << (bits - 8) : value >> (8 - bits);
        return scaled << at;
    };
    return part(rgb >> 16 & 0xFF, framebuffer_.red_at, framebuffer_.red_bits) |
           part(rgb >> 8 & 0xFF, framebuffer_.green_at, framebuffer_.green_bits) |
           part(rgb & 0xFF, framebuffer_.blue_at, framebuffer_.blue_bits);
}

}  // namespace flatback::screen
