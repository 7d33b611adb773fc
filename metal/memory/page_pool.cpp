#include "metal/memory/page_pool.hpp"

#include <cstring>

#include "metal/ground/panic.hpp"
#include "metal/memory/address_space.hpp"
#include "x86/paging.hpp"

namespace flatback::metal {

using x86::page_size_4k;

void PagePool::add(PhysicalRange range) {
    if (total_ != 0) panic("memory was given to the page pool twice");
    range_ = range;
    untouched_ = range.start;
    total_ = range.size() / page_size_4k;
    free_ = total_;
}

void* PagePool::allocate_page() {
    void* page = nullptr;
    {
        const SpinLockGuard guard{lock_};
        page = first_free_;
        if (page != nullptr) {
            std::memcpy(&first_free_, page, sizeof first_free_);
            --free_;
        } else {
            page = take_untouched(1);
        }
    }
    return page == nullptr ? nullptr : std::memset(page, 0, page_size_4k);
}

void* PagePool::allocate_page_or_panic(const char* purpose) {
    void* page = allocate_page();
    if (page == nullptr) {
        panic("L0 is out of memory for ", purpose, ": all ", total_, " pages of its pool are in use");
    }
    return page;
}

void PagePool::free_page(void* page) {
    const x86::Hpa address = physical_of(page);
    const SpinLockGuard guard{lock_};
    if (!range_.contains(address.value()) || address.value() >= untouched_ || !address.is_aligned()) {
        panic("a page was freed that is none of the pool's: ", log::hex(address));
    }
    std::memcpy(page, &first_free_, sizeof first_free_);
    first_free_ = page;
    ++free_;
}

void* PagePool::allocate_contiguous(std::size_t count) {
    void* first = nullptr;
    {
        const SpinLockGuard guard{lock_};
        first = take_untouched(count);
    }
    return first == nullptr ? nullptr : std::memset(first, 0, count * page_size_4k);
}

void* PagePool::take_untouched(std::size_t count) {
    if (count == 0 || (range_.end - untouched_) / page_size_4k < count) return nullptr;
    const x86::Hpa first{untouched_};
    untouched_ += count * page_size_4k;
    free_ -= count;
    return direct_map(first);
}

}  // namespace flatback::metal
