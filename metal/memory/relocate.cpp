#include "metal/memory/relocate.hpp"

#include <algorithm>

#include "metal/ground/panic.hpp"
#include "metal/ground/processor.hpp"
#include "metal/memory/address_space.hpp"
#include "metal/memory/page_pool.hpp"
#include "x86/paging.hpp"

extern "C" const char image_start[], image_rodata[], image_data[], image_end[];
extern "C" const char boot_stack_bottom[];

namespace flatback::metal {
namespace {

// Half of the linear addresses from direct_map_base to those of the image.
constexpr std::uint64_t largest_direct_map = std::uint64_t{1} << 46;

std::uint64_t address_of(const void* symbol) {
    return reinterpret_cast<std::uint64_t>(symbol);
}

std::uint64_t* child_table(PagePool& pages, std::uint64_t& entry) {
    if ((entry & x86::page_entry::present) == 0) {
        void* table = pages.allocate_page_or_panic("L0's page tables");
        entry = physical_of(table).value() | x86::page_entry::present | x86::page_entry::writable;
    }
    return direct_map_as<std::uint64_t>(x86::Hpa{entry & x86::page_entry::address_mask});
}

void map_4k(PagePool& pages, std::uint64_t* root, std::uint64_t linear, std::uint64_t entry) {
    std::uint64_t* table = root;
    for (unsigned level = x86::paging_levels; level > 1; --level) {
        table = child_table(pages, table[x86::table_index(linear, level)]);
    }
    table[x86::table_index(linear, 1)] = entry;
}

// Text: execute. Read-only data: read. Data: write. The lowest page of the stack: nothing, so that an
// overflow faults.
void map_image(PagePool& pages, std::uint64_t* root, std::uint64_t destination) {
    namespace bit = x86::page_entry;
    for (std::uint64_t linear = address_of(image_start); linear < address_of(image_end);
         linear += x86::page_size_4k) {
        if (linear == address_of(boot_stack_bottom)) continue;
        std::uint64_t entry =
            (destination + (linear - address_of(image_start))) | bit::present | bit::accessed;
        if (linear >= address_of(image_rodata)) entry |= bit::execute_disable;
        if (linear >= address_of(image_data)) entry |= bit::writable | bit::dirty;
        map_4k(pages, root, linear, entry);
    }
}

// leaf_level: 3 for pages of 1 GB, 2 for pages of 2 MB.
void map_physical_memory(PagePool& pages, std::uint64_t* root, std::uint64_t size, unsigned leaf_level) {
    namespace bit = x86::page_entry;
    for (std::uint64_t address = 0; address < size; address += x86::bytes_per_entry(leaf_level)) {
        const std::uint64_t linear = direct_map_base + address;
        std::uint64_t* table = root;
        for (unsigned level = x86::paging_levels; level > leaf_level; --level)
            table = child_table(pages, table[x86::table_index(linear, level)]);
        table[x86::table_index(linear, leaf_level)] = address | bit::present | bit::writable | bit::accessed |
                                                      bit::dirty | bit::page_size | bit::execute_disable;
    }
}

}  // namespace

std::uint64_t image_size() {
    return address_of(image_end) - address_of(image_start);
}

PhysicalRange loaded_image() {
    const std::uint64_t start = physical_of(image_start).value();
    return {start, start + image_size()};
}

void relocate(std::uint64_t destination, PagePool& pages, const Processor& processor,
              std::uint64_t direct_size) {
    constexpr std::uint64_t usual_size = std::uint64_t{1} << 39;
    if (!processor.has_1g_pages && direct_size > usual_size) {
        refuse("this processor has no 1 GB pages, and the machine more than ", usual_size >> 30,
               " GB of memory: L0's page tables would be too large; start it with less");
    }
    const std::uint64_t gigabytes = (direct_size + x86::page_size_1g - 1) / x86::page_size_1g;
    const std::uint64_t size =
        std::min({std::max(usual_size, gigabytes * x86::page_size_1g),
                  std::uint64_t{1} << processor.physical_address_width, largest_direct_map});
    auto* root = static_cast<std::uint64_t*>(pages.allocate_page_or_panic("L0's page tables"));
    map_image(pages, root, destination);
    const std::size_t free_before = pages.free_pages();
    map_physical_memory(pages, root, size, processor.has_1g_pages ? 3 : 2);
    if (!processor.has_1g_pages) {
        log::info("this processor has no 1 GB pages: ", size >> 30, " GB of physical addresses take ",
                  4 * (free_before - pages.free_pages()), " KB of L0's memory for its page tables");
    }
    const std::uint64_t new_cr3 = physical_of(root).value();

    // Written before the copy, because the copy is what lives on.
    take_address_space({.direct_base = direct_map_base,
                        .direct_size = size,
                        .image_offset = address_of(image_start) - destination});
    // Nothing is pushed between the copy, which holds this very stack, and the switch to it.
    std::uint64_t to = destination;
    std::uint64_t from = address_of(image_start);
    std::uint64_t count = image_size();
    asm volatile("rep movsb; movq %3, %%cr3" : "+D"(to), "+S"(from), "+c"(count) : "r"(new_cr3) : "memory");
}

}  // namespace flatback::metal
