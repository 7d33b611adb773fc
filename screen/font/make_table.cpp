// Makes the table of text_screen.hpp's glyph() from a console font of PSF version 1 with a table of Unicode,
// read from standard input: `zcat FONT.psfu.gz | make-table >font.inc`. Runs at build time.
#include <cstdint>
#include <cstdio>
#include <vector>

namespace {

constexpr unsigned header_size = 4;  // 36H 04H, mode, bytes of a glyph
constexpr std::uint8_t mode_512 = 1;
constexpr std::uint8_t mode_has_table = 2;
constexpr std::uint16_t end_of_glyph = 0xFFFF;
constexpr std::uint16_t start_of_sequence = 0xFFFE;
constexpr unsigned height = 16;
constexpr unsigned first = ' ';
constexpr unsigned last = '~';

int fail(const char* why) {
    std::fprintf(stderr, "make-table: %s\n", why);
    return 1;
}

}  // namespace

int main() {
    std::vector<std::uint8_t> font;
    for (int byte = std::getchar(); byte != EOF; byte = std::getchar())
        font.push_back(static_cast<std::uint8_t>(byte));
    if (font.size() < header_size || font[0] != 0x36 || font[1] != 0x04 || font[3] != height ||
        (font[2] & mode_has_table) == 0)
        return fail("not a PSF 1 font of 8 by 16 pixels with a table of Unicode");
    const unsigned count = (font[2] & mode_512) != 0 ? 512 : 256;
    std::size_t at = header_size + std::size_t{count} * height;
    std::vector<int> glyphs(last + 1, -1);
    bool in_sequence = false;
    for (unsigned glyph = 0; glyph < count && at + 1 < font.size(); at += 2) {
        const auto value = static_cast<std::uint16_t>(font[at] | font[at + 1] << 8);
        if (value == end_of_glyph) {
            ++glyph;
            in_sequence = false;
        } else if (value == start_of_sequence) {
            in_sequence = true;
        } else if (!in_sequence && value >= first && value <= last && glyphs[value] < 0) {
            glyphs[value] = static_cast<int>(glyph);
        }
    }
    for (unsigned character = first; character <= last; ++character) {
        if (glyphs[character] < 0) return fail("a character of ASCII is missing");
        const std::size_t start = header_size + static_cast<std::size_t>(glyphs[character]) * height;
        for (unsigned row = 0; row < height; ++row) std::printf("0x%02X,", font[start + row]);
        std::printf("\n");
    }
    return 0;
}
