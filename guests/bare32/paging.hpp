// This guest's own paging: 32-bit, or PAE. The first 64 MB are mapped onto themselves; above, a window of
// single pages.
#pragma once

#include <cstdint>

namespace flatback::guests::bare32 {

constexpr std::uint32_t page_size = 4096;

struct alignas(page_size) Page {
    std::uint32_t words[page_size / 4];
};

namespace page_entry {
constexpr std::uint32_t present = 1;
constexpr std::uint32_t writable = 2;
}  // namespace page_entry

enum class Paging : std::uint8_t { none, legacy, pae };

// Turns paging off, or on in this form; the window is empty then.
void set_paging(Paging paging);
Paging paging();

// The root that CR3 holds, and the CR4 bits that go with it.
std::uint32_t paging_root(Paging paging);
std::uint32_t paging_cr4(Paging paging);

// The window's first linear address; its last page is the last of the address space.
constexpr std::uint32_t linear_window = 0xC0000000;
constexpr std::uint32_t last_page = 0xFFFFF000;

// Maps one page of the window (its first 2 MB), or the last page; `entry` is a physical page with page_entry
// bits, or 0.
void map_linear(std::uint32_t linear_address, std::uint32_t entry);

// PAE paging: the second gigabyte is on a page directory of its own, of which there are two. Which of them
// the page- directory-pointer table in memory names; CR3 is not loaded. In each, the first page of the
// gigabyte is `page`.
constexpr std::uint32_t second_gigabyte = 0x40000000;
void fill_second_gigabyte(unsigned which, std::uint32_t page);
void name_second_gigabyte(unsigned which);

// The PDPTEs in memory.
std::uint64_t page_directory_pointer(unsigned index);

}  // namespace flatback::guests::bare32
