#include "metal/console/screen_log.hpp"

#include <string_view>

#include "metal/ground/log.hpp"
#include "metal/memory/address_space.hpp"
#include "screen/framebuffer.hpp"
#include "screen/text_screen.hpp"

namespace flatback::metal {
namespace {

constinit screen::TextScreen text_screen{};
constinit std::uint64_t address = 0;

volatile std::byte* memory() {
    return static_cast<volatile std::byte*>(direct_map(x86::Hpa{address}));
}

void write_to_screen(std::string_view text) {
    const bool failure = text.starts_with("error ") || text.starts_with("FLATBACK error");
    text_screen.write(text, failure ? screen::Colour::bad : screen::Colour::normal);
}

void clear_screen() {
    text_screen.clear();
}

}  // namespace

void show_log_on_screen(Bytes framebuffer) {
    const auto found = screen::parse_framebuffer(framebuffer, screen::MultibootVersion::two);
    if (!found || found->address + found->size() > direct_map_size()) return;
    address = found->address;
    text_screen.start(*found, memory());
    if (!text_screen.started()) return;
    text_screen.write("Flatback: nested VT-x\n", screen::Colour::bright);
    log::set_screen({.write = write_to_screen, .clear = clear_screen});
}

void follow_direct_map() {
    if (text_screen.started()) text_screen.move(memory());
}

}  // namespace flatback::metal
