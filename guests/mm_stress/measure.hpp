#pragma once

#include <cstdint>

#include "guests/linux/failure.hpp"

namespace flatback::guests {

struct ShootdownTicks {
    std::uint64_t interrupt = 0;  ///< membarrier(): one interrupt to the other processor, and its answer
    std::uint64_t shootdown = 0;  ///< mprotect() of 16 pages that the other processor has just read
    std::uint64_t alone = 0;      ///< the same with no other thread
};

/// By a thread on the first processor of this process while another one runs on the second. Error: there is
/// none.
[[nodiscard]] Expected<ShootdownTicks> measure_shootdown();

}  // namespace flatback::guests
