#include "guests/bare/l1/multiboot.hpp"

namespace flatback::guests {

constinit MultibootInformation boot_information{0};

std::string_view MultibootInformation::command_line() const {
    if ((word(0) & command_line_flag) == 0) return {};
    return reinterpret_cast<const char*>(std::uint64_t{word(command_line_address)});
}

std::span<const std::byte> MultibootInformation::framebuffer() const {
    constexpr std::uint32_t framebuffer_flag = 1U << 12;
    constexpr std::uint64_t framebuffer_offset = 88;
    constexpr std::size_t framebuffer_size = 28;
    if ((word(0) & framebuffer_flag) == 0) return {};
    return {reinterpret_cast<const std::byte*>(address_ + framebuffer_offset), framebuffer_size};
}

}  // namespace flatback::guests
