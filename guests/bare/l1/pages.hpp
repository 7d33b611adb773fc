// Page frames for VMCSs, paging structures and L2's memory: linear = physical.
#pragma once

#include <cstddef>
#include <cstdint>

namespace flatback::guests {

constexpr std::uint64_t page_size = 4096;
constexpr std::uint64_t large_page_size = 2 << 20;

struct alignas(page_size) Page {
    std::uint64_t words[page_size / 8];
};

// A zeroed page. Ends the run with an error when none is left.
Page* allocate_page();

// A zeroed range of 2 MB on a boundary of 2 MB.
Page* allocate_large_page();

// Gives back at its end everything that was allocated during its life.
class PageScope final {
public:
    PageScope();
    ~PageScope();
    PageScope(const PageScope&) = delete;
    PageScope& operator=(const PageScope&) = delete;

private:
    std::size_t small_;
    std::size_t large_;
};

struct AddressRange {
    std::uint64_t begin, end;
};

// The image with all of these pages, in large ones.
AddressRange image_window();

inline std::uint64_t physical(const volatile void* pointer) {
    return reinterpret_cast<std::uint64_t>(pointer);
}

}  // namespace flatback::guests
