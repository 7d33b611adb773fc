#include "guests/bare/l1/pages.hpp"

#include "guests/bare/l1/report.hpp"

extern "C" char image_begin[], image_end[];

namespace flatback::guests {
namespace {

constexpr std::size_t pages_in_large = large_page_size / page_size;
constexpr std::size_t large_pages = 8;
constexpr std::size_t pages = large_pages * pages_in_large;

// Small pages are taken from the front, large ones from the back.
alignas(large_page_size) Page pool[pages];
std::size_t small_taken = 0;
std::size_t large_taken = 0;

Page* take(std::size_t index, std::size_t count) {
    if (small_taken > pages - large_taken * pages_in_large) {
        report_error("bare-l1", "out of pages");
        power_off();
    }
    auto* words = pool[index].words;
    std::size_t size = count * page_size / 8;
    asm volatile("rep stosq" : "+D"(words), "+c"(size) : "a"(0) : "memory");
    return &pool[index];
}

}  // namespace

Page* allocate_page() {
    ++small_taken;
    return take(small_taken - 1, 1);
}

Page* allocate_large_page() {
    ++large_taken;
    return take(pages - large_taken * pages_in_large, pages_in_large);
}

AddressRange image_window() {
    return {physical(image_begin) / large_page_size * large_page_size,
            (physical(image_end) + large_page_size - 1) / large_page_size * large_page_size};
}

PageScope::PageScope() : small_{small_taken}, large_{large_taken} {}

PageScope::~PageScope() {
    small_taken = small_;
    large_taken = large_;
}

}  // namespace flatback::guests
