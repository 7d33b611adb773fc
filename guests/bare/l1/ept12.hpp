// EPT12: the extended page tables that this L1 makes for its L2. SDM 3C 29.3.
#pragma once

#include <cstdint>

#include "guests/bare/l1/pages.hpp"

namespace flatback::guests {

namespace ept {
constexpr std::uint64_t readable = 1;
constexpr std::uint64_t writable = 2;
constexpr std::uint64_t executable = 4;
constexpr std::uint64_t all_rights = readable | writable | executable;
constexpr std::uint64_t write_back = 6U << 3;
constexpr std::uint64_t large = 1U << 7;
constexpr std::uint64_t accessed = 1U << 8;
constexpr std::uint64_t dirty = 1U << 9;
}  // namespace ept

// Levels of an EPT paging structure, named by the size of the page that a leaf there maps.
enum class EptLevel : std::uint8_t { page_4k = 1, page_2m = 2, page_1g = 3 };

constexpr std::uint64_t size_of(EptLevel level) {
    return page_size << (9 * (static_cast<unsigned>(level) - 1));
}

class Ept12 final {
public:
    // An empty hierarchy of four levels; pages come from allocate_page.
    Ept12();

    // EPTP: write-back, four levels.
    std::uint64_t pointer() const { return physical(root_) | 6 | (3U << 3); }

    // Maps one page. Replaces what was there at that level or above; an entry below it is lost with its
    // table.
    void map(std::uint64_t guest_physical, std::uint64_t physical_address, EptLevel level,
             std::uint64_t rights = ept::all_rights);

    // Maps [begin, end) onto the same addresses with pages of one size.
    void map_identity(std::uint64_t begin, std::uint64_t end, EptLevel level);

    // The entry that maps guest_physical at the level; makes the tables on the way.
    volatile std::uint64_t& entry(std::uint64_t guest_physical, EptLevel level);

private:
    Page* root_;
};

// A hierarchy over the first 4 GB, identity, in 2 MB pages; made once.
Ept12& usual_ept();

}  // namespace flatback::guests
