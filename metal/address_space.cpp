#include "metal/address_space.hpp"

#include <algorithm>

#include "metal/page_pool.hpp"
#include "metal/panic.hpp"
#include "metal/relocate.hpp"
#include "x86/paging.hpp"

extern "C" const char image_start[], image_rodata[], image_data[], image_end[];
extern "C" const char boot_stack_bottom[];

namespace flatback::metal {
namespace {

// Half of the linear addresses from direct_map_base to those of the image.
constexpr std::uint64_t largest_direct_map = std::uint64_t{1} << 46;

// Where the image and physical memory are seen. Before the move: where metal/boot.S put them.
struct AddressSpace {
    std::uint64_t direct_base = 0;
    std::uint64_t direct_size = std::uint64_t{1} << 32;
    std::uint64_t image_offset = kernel_base;  // virtual minus physical
};
constinit AddressSpace space{};

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

void map_physical_memory(PagePool& pages, std::uint64_t* root, std::uint64_t size) {
    namespace bit = x86::page_entry;
    for (std::uint64_t address = 0; address < size; address += x86::page_size_1g) {
        const std::uint64_t linear = direct_map_base + address;
        std::uint64_t* table = child_table(pages, root[x86::table_index(linear, 4)]);
        table[x86::table_index(linear, 3)] = address | bit::present | bit::writable | bit::accessed |
                                             bit::dirty | bit::page_size | bit::execute_disable;
    }
}

}  // namespace

void* direct_map(x86::Hpa address) {
    if (address.value() >= space.direct_size) {
        panic("physical address ", log::hex(address), " lies beyond what L0 maps, ",
              log::hex(space.direct_size));
    }
    return reinterpret_cast<void*>(space.direct_base + address.value());
}

std::uint64_t direct_map_size() {
    return space.direct_size;
}

x86::Hpa physical_of(const void* object) {
    const std::uint64_t linear = address_of(object);
    if (linear >= address_of(image_start) && linear < address_of(image_end)) {
        return x86::Hpa{linear - space.image_offset};
    }
    if (linear - space.direct_base >= space.direct_size) {
        panic("address ", log::hex(linear), " is neither of L0's image nor of the direct map");
    }
    return x86::Hpa{linear - space.direct_base};
}

std::uint64_t image_size() {
    return address_of(image_end) - address_of(image_start);
}

PhysicalRange loaded_image() {
    const std::uint64_t start = address_of(image_start) - kernel_base;
    return {start, start + image_size()};
}

void relocate(std::uint64_t destination, PagePool& pages, unsigned physical_address_width,
              std::uint64_t direct_size) {
    constexpr std::uint64_t usual_size = std::uint64_t{1} << 39;
    const std::uint64_t gigabytes = (direct_size + x86::page_size_1g - 1) / x86::page_size_1g;
    const std::uint64_t size = std::min({std::max(usual_size, gigabytes * x86::page_size_1g),
                                         std::uint64_t{1} << physical_address_width, largest_direct_map});
    auto* root = static_cast<std::uint64_t*>(pages.allocate_page_or_panic("L0's page tables"));
    map_image(pages, root, destination);
    map_physical_memory(pages, root, size);
    const std::uint64_t new_cr3 = physical_of(root).value();

    // Written before the copy, because the copy is what lives on.
    space = {.direct_base = direct_map_base,
             .direct_size = size,
             .image_offset = address_of(image_start) - destination};
    // Nothing is pushed between the copy, which holds this very stack, and the switch to it.
    std::uint64_t to = destination;
    std::uint64_t from = address_of(image_start);
    std::uint64_t count = image_size();
    asm volatile("rep movsb; movq %3, %%cr3" : "+D"(to), "+S"(from), "+c"(count) : "r"(new_cr3) : "memory");
}

}  // namespace flatback::metal
