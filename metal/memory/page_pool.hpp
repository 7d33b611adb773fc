// L0's own pages: a free list over the part of L0's region that the image does not use.
#pragma once

#include <cstddef>
#include <cstdint>

#include "metal/ground/memory_map.hpp"
#include "metal/ground/spin_lock.hpp"
#include "x86/address.hpp"

namespace flatback::metal {

// Hands out 4 KB pages of L0's region, zeroed. Any processor may call
// it at any time, but for an interrupt handler.
class PagePool final {
public:
    PagePool() = default;
    PagePool(const PagePool&) = delete;
    PagePool& operator=(const PagePool&) = delete;

    // Adds the pages of [range.start, range.end), page-aligned, reachable through the direct map, free from
    // now on.
    void add(PhysicalRange range);

    // A zeroed page, as its address in the direct map; null if none is left.
    [[nodiscard]] void* allocate_page();
    // As allocate_page(), but panics, naming `purpose`: for pages L0 cannot go on without.
    [[nodiscard]] void* allocate_page_or_panic(const char* purpose);
    // page: from allocate_page(), not freed since. Panics on an address that cannot be one.
    void free_page(void* page);
    // `count` zeroed pages with consecutive physical addresses, from memory never handed out before; null if
    // there are not so many. They are never freed.
    [[nodiscard]] void* allocate_contiguous(std::size_t count);

    [[nodiscard]] std::size_t free_pages() const { return free_; }
    [[nodiscard]] std::size_t total_pages() const { return total_; }

private:
    [[nodiscard]] void* take_untouched(std::size_t count);

    mutable SpinLock lock_;
    PhysicalRange range_{};        // all that was ever added
    std::uint64_t untouched_ = 0;  // pages from here to range_.end have never been handed out
    void* first_free_ = nullptr;   // freed pages, each holding the address of the next
    std::size_t free_ = 0;
    std::size_t total_ = 0;
};

}  // namespace flatback::metal
