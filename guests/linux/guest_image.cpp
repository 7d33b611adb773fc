#include "guests/linux/guest_image.hpp"

#include <cstring>

#include "guests/linux/guest_layout.hpp"

namespace flatback::guests {
namespace {

// Present, writable, and accessed and dirty from the start: the processor then has no reason to write
// to the tables itself, so a first touch costs exactly one EPT violation.
constexpr std::uint64_t table_entry = 0x23;
constexpr std::uint64_t page_entry = 0x63;

void build_root(std::span<std::byte> memory, std::uint64_t root, std::uint64_t window_page) {
    for (std::uint64_t level = 0; level + 1 < tables_per_root; ++level) {
        const std::uint64_t table = root + level * page_size;
        write_guest(memory, table, (table + page_size) | table_entry);
    }
    const std::uint64_t page_table = root + (tables_per_root - 1) * page_size;
    for (std::uint64_t linear = 0; linear < guest_memory_size; linear += page_size) {
        const std::uint64_t target = linear == window          ? window_page
                                     : linear == device_window ? device_address
                                                               : linear;
        write_guest(memory, page_table + linear / page_size * 8, target | page_entry);
    }
}

}  // namespace

std::uint64_t read_guest(std::span<const std::byte> memory, std::uint64_t guest_physical) {
    std::uint64_t value = 0;
    std::memcpy(&value, memory.subspan(guest_physical, sizeof value).data(), sizeof value);
    return value;
}

void write_guest(std::span<std::byte> memory, std::uint64_t guest_physical, std::uint64_t value) {
    std::memcpy(memory.subspan(guest_physical, sizeof value).data(), &value, sizeof value);
}

bool build_guest_image(std::span<std::byte> memory, const Payload& which) {
    if (memory.size() != guest_memory_size || which.code.empty() || which.code.size() > code_limit) {
        return false;
    }
    build_root(memory, first_root, first_value_page);
    build_root(memory, second_root, second_value_page);
    write_guest(memory, first_value_page, first_value);
    write_guest(memory, second_value_page, second_value);
    for (std::uint64_t page = 0; page < touch_pages; ++page) {
        write_guest(memory, touch_region + page * page_size, touch_pattern(page));
    }
    std::memcpy(memory.subspan(code_address).data(), which.code.data(), which.code.size());
    return true;
}

}  // namespace flatback::guests
