#include "guests/bare/l1/pvh.hpp"

#include <cstddef>

namespace flatback::guests {
namespace {

// Of version 1 on; a map is there from then on.
struct StartInformation {
    std::uint32_t magic;
    std::uint32_t version;
    std::uint32_t flags;
    std::uint32_t modules;
    std::uint64_t module_list;
    std::uint64_t command_line;
    std::uint64_t rsdp;
    std::uint64_t map;
    std::uint32_t map_entries;
    std::uint32_t reserved;
};
static_assert(sizeof(StartInformation) == 56);

struct StartMapEntry {
    std::uint64_t base;
    std::uint64_t size;
    std::uint32_t type;  // of E820; 1 is available memory, as in Multiboot
    std::uint32_t reserved;
};
static_assert(sizeof(StartMapEntry) == 24);

struct MultibootMapEntry {
    std::uint32_t size_of_rest;
    std::uint32_t words[5];  // base, length, type
};
static_assert(sizeof(MultibootMapEntry) == 24);

constexpr std::size_t most_ranges = 64;
MultibootMapEntry map[most_ranges];

// In words of 32 bits. Multiboot 1 specification, 3.3.
constexpr std::size_t flags_at = 0;
constexpr std::size_t command_line_at = 4;
constexpr std::size_t map_length_at = 11;
constexpr std::size_t map_address_at = 12;
constexpr std::uint32_t has_command_line = 1U << 2;
constexpr std::uint32_t has_map = 1U << 6;
std::uint32_t information[29];

std::uint32_t address_of(const void* object) {
    return static_cast<std::uint32_t>(reinterpret_cast<std::uint64_t>(object));
}

}  // namespace

std::uint32_t multiboot_information_of_pvh(std::uint32_t start_information) {
    const auto& start = *reinterpret_cast<const StartInformation*>(std::uint64_t{start_information});
    if (start.command_line != 0) {
        information[flags_at] |= has_command_line;
        information[command_line_at] = static_cast<std::uint32_t>(start.command_line);
    }
    std::size_t count = 0;
    if (start.version >= 1) {
        const auto* ranges = reinterpret_cast<const StartMapEntry*>(start.map);
        for (; count < start.map_entries && count < most_ranges; ++count) {
            const StartMapEntry& from = ranges[count];
            map[count] = {sizeof(MultibootMapEntry::words),
                          {static_cast<std::uint32_t>(from.base), static_cast<std::uint32_t>(from.base >> 32),
                           static_cast<std::uint32_t>(from.size), static_cast<std::uint32_t>(from.size >> 32),
                           from.type}};
        }
        information[flags_at] |= has_map;
        information[map_length_at] = static_cast<std::uint32_t>(count * sizeof(MultibootMapEntry));
        information[map_address_at] = address_of(map);
    }
    return address_of(information);
}

}  // namespace flatback::guests
