// Started by PVH, Xen's way of booting a guest that has no firmware. What is in its start information is told
// on as a Multiboot loader would: the command line and the memory map.
#pragma once

#include <cstdint>

namespace flatback::guests {

// The first word of the start information, and what pvh.S puts in the place of a loader's magic.
inline constexpr std::uint32_t pvh_magic = 0x336EC578;

// The physical address of Multiboot 1 information that says the same as the start information at that one; it
// lasts. Ranges of the map behind the sixty-fourth are left out.
std::uint32_t multiboot_information_of_pvh(std::uint32_t start_information);

}  // namespace flatback::guests
