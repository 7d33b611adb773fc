#include "screen/text_screen.hpp"

namespace flatback::screen {
namespace {

constexpr char first = ' ';
constexpr char last = '~';

// screen/font/make_table.cpp; the font's licence is screen/font/LICENSE.
constexpr std::uint8_t table[] = {
#include "screen/font.inc"
};
static_assert(sizeof table == (last - first + 1) * TextScreen::font_height);

}  // namespace

const std::uint8_t* glyph(char character) {
    const char known = character >= first && character <= last ? character : '?';
    return table + static_cast<std::size_t>(known - first) * TextScreen::font_height;
}

}  // namespace flatback::screen
