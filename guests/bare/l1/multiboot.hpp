// The Multiboot 1 information that this guest reads: its command line and the memory map.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace flatback::guests {

struct MemoryRange {
    std::uint64_t base;
    std::uint64_t size;
    bool available;
};

class MultibootInformation final {
public:
    constexpr explicit MultibootInformation(std::uint64_t address) : address_{address} {}

    // Empty where the loader gave none.
    std::string_view command_line() const;

    // The description of the screen, from its address on; empty where the loader gave none.
    std::span<const std::byte> framebuffer() const;

    // Calls visit(MemoryRange) for each range of the map, in its order.
    template <typename Visit>
    void each_range(Visit visit) const {
        if ((word(0) & map_flag) == 0) return;
        std::uint64_t at = word(map_address);
        const std::uint64_t end = at + word(map_length);
        while (at < end) {
            // Each entry: its size less 4, base, length, type; 1 is available memory.
            const auto* entry = reinterpret_cast<const std::uint32_t*>(at);
            visit(MemoryRange{entry[1] | std::uint64_t{entry[2]} << 32,
                              entry[3] | std::uint64_t{entry[4]} << 32, entry[5] == 1});
            at += entry[0] + 4;
        }
    }

    // Calls visit(begin, end) for each module, in their order.
    template <typename Visit>
    void each_module(Visit visit) const {
        if ((word(0) & modules_flag) == 0) return;
        for (std::uint32_t number = 0; number < word(modules_count); ++number) {
            constexpr std::uint32_t entry_size = 16;
            const auto* entry =
                reinterpret_cast<const std::uint32_t*>(std::uint64_t{word(modules)} + number * entry_size);
            visit(std::uint64_t{entry[0]}, std::uint64_t{entry[1]});
        }
    }

private:
    static constexpr std::uint32_t command_line_flag = 1U << 2;
    static constexpr std::uint32_t modules_flag = 1U << 3;
    static constexpr std::uint32_t map_flag = 1U << 6;
    static constexpr std::uint64_t command_line_address = 16;
    static constexpr std::uint64_t modules_count = 20;
    static constexpr std::uint64_t modules = 24;
    static constexpr std::uint64_t map_length = 44;
    static constexpr std::uint64_t map_address = 48;

    std::uint32_t word(std::uint64_t offset) const {
        return *reinterpret_cast<const volatile std::uint32_t*>(address_ + offset);
    }

    std::uint64_t address_;
};

// That of this boot, set by main.
extern MultibootInformation boot_information;

}  // namespace flatback::guests
