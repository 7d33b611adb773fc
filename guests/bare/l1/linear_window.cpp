#include "guests/bare/l1/linear_window.hpp"

#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/forget.hpp"
#include "guests/bare/l1/pages.hpp"

extern "C" std::uint64_t boot_pdpt[];

namespace flatback::guests {
namespace {

Page directory;
Page table;

}  // namespace

void edit_linear(unsigned index, std::uint64_t entry) {
    // By a volatile access: what reads it is the processor's walk.
    *static_cast<volatile std::uint64_t*>(&table.words[index]) = entry;
}

void map_linear(unsigned index, std::uint64_t entry) {
    constexpr std::uint64_t to_table = linear_page::present | linear_page::writable;
    boot_pdpt[linear_window >> 30] = physical(&directory) | to_table;
    directory.words[0] = physical(&table) | to_table;
    edit_linear(index, entry);
    invalidate_page(window_address(index * page_size));
    forget_all_vpids();  // INVLPG is for VPID 0, and L2s walk these tables under theirs
}

}  // namespace flatback::guests
