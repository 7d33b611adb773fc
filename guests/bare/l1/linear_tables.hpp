// Page tables that L1 makes for an L2: 4-level paging, 4 KB and 2 MB pages.
#pragma once

#include <cstdint>

#include "guests/bare/l1/pages.hpp"

namespace flatback::guests {

class LinearTables final {
public:
    LinearTables();

    std::uint64_t root() const { return physical(root_); }

    // Maps the first 48 MB, this image in it, onto themselves in 2 MB pages.
    void map_image();

    // The entry that translates the address at a level (1: of a 4 KB page, to 4); makes the tables on the
    // way.
    volatile std::uint64_t& entry(std::uint64_t linear_address, unsigned level = 1);

private:
    std::uint64_t* table_of(std::uint64_t linear_address, unsigned level);

    Page* root_;
};

}  // namespace flatback::guests
