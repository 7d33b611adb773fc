#include "screen/framebuffer.hpp"

namespace flatback::screen {
namespace {

// Types of framebuffers.
constexpr std::uint8_t direct_colour = 1;
constexpr std::uint8_t ega_text = 2;

// More is no screen, and its size would not fit.
constexpr std::uint32_t most_pixels = 16384;
constexpr std::uint32_t most_pitch = 1 << 20;

std::uint64_t number(std::span<const std::byte> bytes, std::size_t at, unsigned size) {
    std::uint64_t value = 0;
    for (unsigned i = size; i > 0; --i) value = value << 8 | static_cast<std::uint8_t>(bytes[at + i - 1]);
    return value;
}

bool fits(std::uint8_t at, std::uint8_t bits, unsigned depth) {
    return bits != 0 && bits <= 16 && at + bits <= static_cast<int>(depth);
}

}  // namespace

std::optional<Framebuffer> parse_framebuffer(std::span<const std::byte> bytes, MultibootVersion version) {
    constexpr std::size_t colours_of_1 = 22;
    const std::size_t colours = colours_of_1 + (version == MultibootVersion::two ? 2 : 0);
    if (bytes.size() < colours_of_1) return std::nullopt;
    Framebuffer found;
    found.address = number(bytes, 0, 8);
    found.pitch = static_cast<std::uint32_t>(number(bytes, 8, 4));
    found.width = static_cast<std::uint32_t>(number(bytes, 12, 4));
    found.height = static_cast<std::uint32_t>(number(bytes, 16, 4));
    const auto depth = static_cast<unsigned>(number(bytes, 20, 1));
    const auto type = static_cast<std::uint8_t>(number(bytes, 21, 1));
    if (found.address == 0 || found.pitch > most_pitch || found.width == 0 || found.width > most_pixels ||
        found.height == 0 || found.height > most_pixels)
        return std::nullopt;
    if (type == ega_text) {
        found.kind = ScreenKind::vga_text;
        found.pixel_size = 2;
    } else if (type == direct_colour && bytes.size() >= colours + 6) {
        if (depth != 15 && depth != 16 && depth != 24 && depth != 32) return std::nullopt;
        found.pixel_size = static_cast<std::uint8_t>((depth + 7) / 8);
        const auto byte = [&](std::size_t at) { return static_cast<std::uint8_t>(bytes[colours + at]); };
        found.red_at = byte(0);
        found.red_bits = byte(1);
        found.green_at = byte(2);
        found.green_bits = byte(3);
        found.blue_at = byte(4);
        found.blue_bits = byte(5);
        if (!fits(found.red_at, found.red_bits, depth) || !fits(found.green_at, found.green_bits, depth) ||
            !fits(found.blue_at, found.blue_bits, depth))
            return std::nullopt;
    } else {
        return std::nullopt;
    }
    if (found.pitch / found.pixel_size < found.width) return std::nullopt;
    if (found.address + found.size() < found.address) return std::nullopt;
    return found;
}

}  // namespace flatback::screen
