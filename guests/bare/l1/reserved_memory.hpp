// Memory that the boot loader's map keeps from this guest: where an L0 may be.
#pragma once

#include <cstdint>

namespace flatback::guests {

struct MemoryHole {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
};

// The largest range that is reserved between the first megabyte and the devices below 4 GB; empty where there
// is none.
MemoryHole top_reserved_range();

}  // namespace flatback::guests
