// Which pages of L1's it has written to since L0 last looked: by the dirty flags of EPT01, so that a look
// costs nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "x86/address.hpp"

namespace flatback::metal {

class Ept01;
class PagePool;

// A page is watched from the first question about it; the few that were asked about last are remembered.
// Writes by devices are not seen, nor L0's own for L1, nor those of an L2 to which L1 gave the page: what is
// made of a watched page must not be what protects L0. Not shared between processors.
class WrittenPages final {
public:
    // alone: no other processor runs L1. Where one does, which has an EPT01 of its own, nothing is known of a
    // page: every answer is that it may have been written.
    WrittenPages(Ept01& ept01, const PagePool& pages, bool alone)
        : ept01_(ept01), pages_(pages), alone_(alone) {}

    // False: written, or not known. From now on the page counts as not written.
    [[nodiscard]] bool unwritten_since_last_asked(x86::Gpa<x86::L1> page) {
        for (Watched& watched : watched_) {
            if (watched.page != page.value()) continue;
            if ((*watched.leaf & dirty) == 0) [[likely]]
                return true;
            clear(watched);
            return false;
        }
        watch(page);
        return false;
    }

    // True: the next write of L1's there is an EPT violation, which let_write() takes.
    [[nodiscard]] bool keep_unwritten(x86::Gpa<x86::L1> page);
    // For an EPT violation of L1's: whether it is such a write, which then goes through.
    [[nodiscard]] bool let_write(x86::Gpa<x86::L1> address);

private:
    static constexpr std::uint64_t dirty = 1ULL << 9;  // SDM 3C table 29-7
    struct Watched {
        std::uint64_t page = ~std::uint64_t{0};
        std::uint64_t* leaf = nullptr;
    };
    [[nodiscard]] std::uint64_t* leaf_to_watch(x86::Gpa<x86::L1> page);
    void watch(x86::Gpa<x86::L1> page);
    void clear(Watched& watched);

    // Splitting large pages of EPT01 takes pages of L0's that are never given back: so many, and no new page
    // is watched.
    static constexpr std::size_t most_pages = 64;

    Ept01& ept01_;
    const PagePool& pages_;
    bool alone_;
    std::size_t pages_taken_ = 0;
    std::array<Watched, 16> watched_;
    unsigned next_ = 0;
};

}  // namespace flatback::metal
