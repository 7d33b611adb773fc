#include "guests/bare/l1/reserved_memory.hpp"

#include "guests/bare/l1/multiboot.hpp"

namespace flatback::guests {

MemoryHole top_reserved_range() {
    constexpr std::uint64_t first_megabyte = 1 << 20;
    constexpr std::uint64_t devices = 0xE000'0000;
    MemoryHole found;
    boot_information.each_range([&](const MemoryRange& range) {
        const std::uint64_t end = range.base + range.size;
        if (range.available || range.base < first_megabyte || end > devices) return;
        if (range.size > found.end - found.begin) found = {range.base, end};
    });
    return found;
}

}  // namespace flatback::guests
