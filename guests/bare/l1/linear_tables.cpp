#include "guests/bare/l1/linear_tables.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t address_mask = 0x000FFFFFFFFFF000;
constexpr std::uint64_t present_writable = 3;
constexpr std::uint64_t large = 1U << 7;

std::uint64_t index_of(std::uint64_t linear_address, unsigned level) {
    return linear_address >> (12 + 9 * (level - 1)) & 511;
}

}  // namespace

LinearTables::LinearTables() : root_{allocate_page()} {}

std::uint64_t* LinearTables::table_of(std::uint64_t linear_address, unsigned level) {
    std::uint64_t* table = root_->words;
    for (unsigned at = 4; at > level; --at) {
        std::uint64_t& slot = table[index_of(linear_address, at)];
        if ((slot & 1) == 0) slot = physical(allocate_page()) | present_writable;
        table = reinterpret_cast<std::uint64_t*>(slot & address_mask);
    }
    return table;
}

void LinearTables::map_image() {
    const AddressRange window = image_window();
    for (std::uint64_t address = window.begin; address < window.end; address += large_page_size) {
        table_of(address, 2)[index_of(address, 2)] = address | present_writable | large;
    }
}

volatile std::uint64_t& LinearTables::entry(std::uint64_t linear_address, unsigned level) {
    return table_of(linear_address, level)[index_of(linear_address, level)];
}

}  // namespace flatback::guests
