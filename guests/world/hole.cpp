// L0's own memory, as L1 finds it: ones, and what is written to it vanishes.
#include "guests/world/support.hpp"

namespace world {
namespace {

// The reserved range of 32 MB that follows usable memory: L0's. 0 where there is none.
u32 find_hole(u32 information) {
    const u32 map = memory<u32>(information + 48);
    for (u32 at = map; at < map + memory<u32>(information + 44); at += memory<u32>(at) + 4) {
        if (memory<u32>(at + 20) == 2 && memory<u64>(at + 12) == 32 << 20)
            return static_cast<u32>(memory<u64>(at + 4));
    }
    return 0;
}

}  // namespace

void check_hole(u32 information) {
    const u32 hole = find_hole(information);
    if (hole == 0) {
        check("hole", false, "the map has no reserved range of 32 MB");
        return;
    }
    const auto ones = [hole] {
        for (u32 at = 0; at < 32 << 20; at += 0x1FF004) {
            if (memory<u32>(hole + at) != 0xFFFFFFFF) return false;
        }
        return memory<u32>(hole) == 0xFFFFFFFF && memory<u32>(hole + (32 << 20) - 4) == 0xFFFFFFFF;
    };
    check("hole-reads-as-ones", ones(), "it does not");
    memory<u32>(hole + 0x1000) = 0x12345678;
    check("hole-takes-no-write", memory<u32>(hole + 0x1000) == 0xFFFFFFFF && ones(),
          "what was written is read");
    u32 old = 0;
    asm volatile("xchgl %0, (%1)" : "+r"(old) : "r"(hole + 0x2000) : "memory");
    check("hole-exchange", old == 0xFFFFFFFF && memory<u32>(hole + 0x2000) == 0xFFFFFFFF,
          "XCHG reads or leaves a value");
    // Across the border of two of its pages, and into it from the memory before.
    memory<u32>(hole + 0x2FFE) = 0;
    memory<u32>(hole - 2) = 0xAABBCCDD;
    check("hole-across-pages",
          memory<u32>(hole + 0x2FFE) == 0xFFFFFFFF && memory<u32>(hole - 2) == 0xFFFFCCDD && ones(),
          "a write across a border leaves something, or not its part outside");
    u32 count = 0x300;
    u32 to = hole + 0x4800;
    asm volatile("rep stosl" : "+c"(count), "+D"(to) : "a"(0) : "memory");
    check("hole-string", count == 0 && to == hole + 0x4800 + 0xC00 && ones(), "REP STOS leaves something");
    // Flags as they were, but for what the instruction makes.
    u32 flags = 0;
    asm volatile("stc; movl $1, (%1); pushfl; popl %0" : "=r"(flags) : "r"(hole + 0x5000) : "memory");
    check("hole-flags", (flags & 0x0001'0101) == 1, "CF is lost, or TF or RF is left");
    // A stack there: what is pushed reads as ones.
    u32 popped = 0;
    asm volatile("movl %%esp, %%edx; movl %1, %%esp; pushl $5; pushfl; popl %0; movl %%edx, %%esp"
                 : "=&r"(popped)
                 : "r"(hole + 0x6000)
                 : "edx", "memory");
    check("hole-stack", popped == 0xFFFFFFFF && ones(), "a push leaves something");
}

}  // namespace world
