// L2 programs that touch memory, and an EPT12 that a check may break: the image is mapped page by page, and a
// window of L2-physical addresses past it is free.
#pragma once

#include <cstdint>

#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2.hpp"

namespace flatback::guests {

extern "C" {
// RAX = [RDI], then VMCALL.
extern char l2_load[];
// [RDI] = RBX, then VMCALL.
extern char l2_store[];
// [RDI] += RBX, then VMCALL.
extern char l2_add[];
// Calls RDI; a `vmcall` there comes back to L1.
extern char l2_jump[];
}

// L2-physical = linear addresses where L2 has nothing unless a check maps it: L1's page tables that L2 uses
// reach all of the first 4 GB.
constexpr std::uint64_t free_window = 1ULL << 30;

// An EPT12 that maps this image and no more, in 4 KB pages.
void map_image(Ept12& hierarchy);

// Starts the program at its first instruction with this address in RDI.
void start(L2& l2, const char* program, std::uint64_t address, std::uint64_t value = 0);

}  // namespace flatback::guests
