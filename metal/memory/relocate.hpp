// The move of L0's image out of the memory that L1 gets.
#pragma once

#include <cstdint>

#include "metal/ground/memory_map.hpp"

namespace flatback::metal {

class PagePool;
struct Processor;

// Bytes of the image, from its first instruction to the end of its bss, whole pages.
[[nodiscard]] std::uint64_t image_size();
// Where GRUB put the image.
[[nodiscard]] PhysicalRange loaded_image();

// Copies the running image to `destination` (physical, page-aligned, image_size() bytes, below 4 GB) and
// switches to final page tables: the image at its old linear addresses with 4 KB pages (text RX, read-only
// data R, data RW, nothing both written and executed), the direct map with the largest pages
// that the processor has (2 MB pages take 4 KB of `pages` for each GB), no identity map.
// `pages` must lie below 4 GB. direct_size: what the direct map shall reach at least (address_space.hpp).
// Pointers into the old identity map are dead afterwards.
void relocate(std::uint64_t destination, PagePool& pages, const Processor& processor,
              std::uint64_t direct_size);

}  // namespace flatback::metal
