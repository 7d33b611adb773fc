// A few linear pages, past the identity map, that a check maps as it likes: two neighbours, or one and a
// hole.
#pragma once

#include <cstdint>

namespace flatback::guests {

namespace linear_page {
constexpr std::uint64_t present = 1;
constexpr std::uint64_t writable = 2;
constexpr std::uint64_t global = 1U << 8;
}  // namespace linear_page

// The window is 2 MB long; its first linear address.
constexpr std::uint64_t linear_window = 5ULL << 30;

// Writes the page-table entry of the window's page `index` (0 to 511) and drops its translation, L2s'
// included. `entry` is a physical page with linear_page bits, or 0 for no page.
void map_linear(unsigned index, std::uint64_t entry);

// Writes it and drops nothing.
void edit_linear(unsigned index, std::uint64_t entry);

inline void* window_address(std::uint64_t offset) {
    return reinterpret_cast<void*>(linear_window + offset);
}

}  // namespace flatback::guests
