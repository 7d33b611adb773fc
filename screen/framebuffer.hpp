// The screen as a Multiboot loader describes it (Multiboot 1, 3.3; Multiboot2, 3.6.12).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace flatback::screen {

enum class ScreenKind : std::uint8_t { pixels, vga_text };

struct Framebuffer {
    ScreenKind kind = ScreenKind::pixels;
    std::uint64_t address = 0;    // physical
    std::uint32_t pitch = 0;      // bytes from one row to the next
    std::uint32_t width = 0;      // pixels, or characters
    std::uint32_t height = 0;     // pixels, or characters
    std::uint8_t pixel_size = 0;  // bytes; 2 for a character
    // Where each colour's bits are in a pixel.
    std::uint8_t red_at = 0, red_bits = 0;
    std::uint8_t green_at = 0, green_bits = 0;
    std::uint8_t blue_at = 0, blue_bits = 0;

    [[nodiscard]] constexpr std::uint64_t size() const { return std::uint64_t{pitch} * height; }
    friend bool operator==(const Framebuffer&, const Framebuffer&) = default;
};

// `bytes`: from the framebuffer's address (8 bytes) on: pitch, width, height (4 each), depth and type (1
// each), then the colours, which are behind 2 more bytes in Multiboot2. Nothing where there is no screen that
// can be written to: colours by an index, pixels that are no whole bytes, rows that overlap.
enum class MultibootVersion : std::uint8_t { one, two };
[[nodiscard]] std::optional<Framebuffer> parse_framebuffer(std::span<const std::byte> bytes,
                                                           MultibootVersion version);

}  // namespace flatback::screen
