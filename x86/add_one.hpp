// A count kept in memory, one instruction for each.
#pragma once

#include <cstdint>

namespace flatback::x86 {

// Compilers make a load, an addition and a store of ++count where they hope to join it with another one.
[[gnu::always_inline]] inline void add_one(std::uint64_t& count) {
    asm("addq $1, %0" : "+m"(count) : : "cc");
}

}  // namespace flatback::x86
