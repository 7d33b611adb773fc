#include "guests/bare/l1/ept12.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t address_mask = 0x000FFFFFFFFFF000;

}  // namespace

Ept12::Ept12() : root_{allocate_page()} {}

volatile std::uint64_t& Ept12::entry(std::uint64_t guest_physical, EptLevel level) {
    std::uint64_t* table = root_->words;
    for (unsigned at = 4;; --at) {
        std::uint64_t& slot = table[guest_physical >> (12 + 9 * (at - 1)) & 511];
        if (at == static_cast<unsigned>(level)) return slot;
        if ((slot & ept::all_rights) == 0 || (slot & ept::large) != 0) {
            slot = physical(allocate_page()) | ept::all_rights;
        }
        table = reinterpret_cast<std::uint64_t*>(slot & address_mask);
    }
}

void Ept12::map(std::uint64_t guest_physical, std::uint64_t physical_address, EptLevel level,
                std::uint64_t rights) {
    entry(guest_physical, level) =
        physical_address | rights | ept::write_back | (level == EptLevel::page_4k ? 0 : ept::large);
}

void Ept12::map_identity(std::uint64_t begin, std::uint64_t end, EptLevel level) {
    for (std::uint64_t address = begin; address < end; address += size_of(level))
        map(address, address, level);
}

Ept12& usual_ept() {
    static Ept12 hierarchy;
    static bool made = false;
    if (!made) {
        made = true;
        hierarchy.map_identity(0, 4ULL << 30, EptLevel::page_2m);
    }
    return hierarchy;
}

}  // namespace flatback::guests
