// Text as a QR code, by Debian's libqrcodegen.
#pragma once

#include <string_view>

#include "screen/text_screen.hpp"

namespace flatback::guests {

class QrCode final {
public:
    // Letters, digits and "$%*+-./:" take the least room. False: too long for any.
    [[nodiscard]] bool make(std::string_view text);
    // In modules, its margin of four on each side included; 0: none was made.
    [[nodiscard]] unsigned size() const;
    // Dark on bright, its left upper corner at x and y, `scale` pixels a module.
    void draw(screen::TextScreen& on, unsigned x, unsigned y, unsigned scale) const;
};

}  // namespace flatback::guests
