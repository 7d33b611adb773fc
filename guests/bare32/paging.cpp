#include "guests/bare32/paging.hpp"

#include "guests/bare32/cpu.hpp"

namespace flatback::guests::bare32 {
namespace {

constexpr std::uint32_t large = 1U << 7;
constexpr std::uint32_t mapped_megabytes = 64;
constexpr std::uint32_t table_entry = page_entry::present | page_entry::writable;

struct alignas(page_size) Table32 {
    std::uint32_t entries[1024];
};
struct alignas(page_size) Table64 {
    std::uint64_t entries[512];
};

Table32 directory32, window32, top32;
Table64 directory_low, directory_high, window64, top64;
Table64 directory_second[2], table_second[2];
alignas(32) std::uint64_t pointers[4];
Paging paging_ = Paging::none;

void fill_legacy() {
    for (std::uint32_t i = 0; i < mapped_megabytes / 4; ++i)
        directory32.entries[i] = i << 22 | large | table_entry;
    directory32.entries[linear_window >> 22] = physical(&window32) | table_entry;
    directory32.entries[last_page >> 22] = physical(&top32) | table_entry;
    for (std::uint32_t& entry : window32.entries) entry = 0;
    for (std::uint32_t& entry : top32.entries) entry = 0;
}

void fill_pae() {
    for (std::uint32_t i = 0; i < mapped_megabytes / 2; ++i)
        directory_low.entries[i] = i << 21 | large | table_entry;
    directory_high.entries[0] = physical(&window64) | table_entry;
    directory_high.entries[511] = physical(&top64) | table_entry;
    for (std::uint64_t& entry : window64.entries) entry = 0;
    for (std::uint64_t& entry : top64.entries) entry = 0;
    for (unsigned which = 0; which < 2; ++which)
        directory_second[which].entries[0] = physical(&table_second[which]) | table_entry;
    pointers[0] = physical(&directory_low) | page_entry::present;
    pointers[1] = physical(&directory_second[0]) | page_entry::present;
    pointers[2] = 0;
    pointers[3] = physical(&directory_high) | page_entry::present;
}

}  // namespace

Paging paging() {
    return paging_;
}

std::uint32_t paging_root(Paging paging) {
    return paging == Paging::pae ? physical(pointers) : physical(&directory32);
}

std::uint32_t paging_cr4(Paging paging) {
    return paging == Paging::pae ? cr4_pae : cr4_pse;
}

void set_paging(Paging paging) {
    write_cr0(read_cr0() & ~cr0_pg);
    paging_ = paging;
    if (paging == Paging::none) return;
    // Both: an L2 may use the one while this guest uses the other.
    fill_legacy();
    fill_pae();
    write_cr4((read_cr4() & ~(cr4_pae | cr4_pse)) | paging_cr4(paging));
    write_cr3(paging_root(paging));
    write_cr0(read_cr0() | cr0_pg | cr0_wp);
}

void map_linear(std::uint32_t linear_address, std::uint32_t entry) {
    const bool top = linear_address >= last_page;
    if (paging_ == Paging::pae) {
        (top ? top64 : window64).entries[linear_address >> 12 & 511] = entry;
    } else {
        (top ? top32 : window32).entries[linear_address >> 12 & 1023] = entry;
    }
    invalidate_page(linear_address);
}

void fill_second_gigabyte(unsigned which, std::uint32_t page) {
    table_second[which].entries[0] = page | table_entry;
}

void name_second_gigabyte(unsigned which) {
    asm volatile("" : : : "memory");
    *const_cast<volatile std::uint64_t*>(&pointers[1]) =
        physical(&directory_second[which]) | page_entry::present;
}

std::uint64_t page_directory_pointer(unsigned index) {
    return pointers[index];
}

}  // namespace flatback::guests::bare32
