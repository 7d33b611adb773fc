#include "metal/l0/second_memory.hpp"

#include <algorithm>
#include <cstring>

#include "metal/memory/address_space.hpp"
#include "metal/memory/page_pool.hpp"
#include "x86/paging.hpp"

namespace flatback::metal {

namespace bits = vmx::ept_entry;

// Four levels; what is not memory is by tables that are all alike, one a level.
SecondMemory::SecondMemory(PagePool& pages, PhysicalRange place) : place_(place) {
    const auto new_page = [&] {
        return static_cast<std::uint64_t*>(pages.allocate_page_or_panic("the EPT of the second VM"));
    };
    const auto table_entry = [](const std::uint64_t* table) {
        return physical_of(table).value() | bits::permissions;
    };
    const std::uint64_t write_back = bits::permissions | bits::memory_type(x86::MemoryType::write_back);
    nothing_ = physical_of(new_page());
    forget_writes();
    std::uint64_t entry = nothing_.value() | write_back;
    std::uint64_t* table = nullptr;
    for (unsigned level = 1; level < x86::paging_levels; ++level) {
        table = new_page();
        std::fill_n(table, x86::entries_per_table, entry);
        entry = table_entry(table);
        if (level != 2) continue;
        // The first gigabyte begins with memory.
        std::uint64_t* const first = new_page();
        std::copy_n(table, x86::entries_per_table, first);
        for (std::uint64_t at = 0; at < size(); at += x86::page_size_2m)
            first[at / x86::page_size_2m] = (place_.start + at) | write_back | bits::page_size;
        std::uint64_t* const gigabytes = new_page();
        std::fill_n(gigabytes, x86::entries_per_table, entry);
        gigabytes[0] = table_entry(first);
        std::uint64_t* const root = new_page();
        pointer_ = vmx::Eptp::make(physical_of(root).value(), x86::MemoryType::write_back,
                                   /*accessed_dirty=*/false, x86::paging_levels);
        root[0] = table_entry(gigabytes);
    }
    auto* const root = direct_map_as<std::uint64_t>(x86::Hpa{pointer_.root()});
    std::fill_n(root + 1, x86::entries_per_table - 1, entry);
}

void SecondMemory::forget_writes() {
    std::memset(direct_map(nothing_), 0xff, x86::page_size_4k);
}

}  // namespace flatback::metal
