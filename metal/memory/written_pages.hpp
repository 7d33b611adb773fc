// Which pages of L1's it has written to since L0 last looked: by the dirty flags of EPT01, so that a look
// costs nothing, or with several processors by the right to write there.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "metal/memory/copied_pages.hpp"
#include "x86/address.hpp"

namespace flatback::metal {

class Ept01;
class PagePool;

// The other processors that run L1, each with an EPT01 of its own, and what WrittenPages wants of them.
struct OtherProcessors {
    CopiedPages& kept;
    CopiedPages::Processors (*running)();     // those that run L1
    void (*ask)(unsigned processor);          // to call close_kept() before it enters a guest again
    void (*closed_here)(std::uint64_t page);  // told of each page that this processor has closed
    // How often L0 has written, for L1 and on another processor, to where kept pages may lie.
    std::uint64_t (*writes_of_l0)();
    unsigned here;  // this processor's number
};

// A page is watched from the first question about it; the few that were asked about last are remembered.
// Writes by devices are not seen, nor L0's own for L1 on this processor, nor those of an L2 to which L1 gave
// the page: what is made of a watched page must not be what protects L0. Not shared between processors.
//
// Where several processors run L1 a dirty flag says nothing of another one's writes. A page is then kept by
// all of them (copied_pages.hpp): until each has answered, every answer is that it may have been written.
class WrittenPages final {
public:
    WrittenPages(Ept01& ept01, const PagePool& pages, std::optional<OtherProcessors> others)
        : ept01_(ept01), pages_(pages), others_(others) {}

    // False: written, or not known. From now on the page counts as not written.
    [[nodiscard]] bool unwritten_since_last_asked(x86::Gpa<x86::L1> page) {
        for (Watched& watched : watched_) {
            if (watched.page != page.value()) continue;
            if ((*watched.leaf & dirty) == 0) [[likely]]
                return true;
            return clear(watched);
        }
        watch(page);
        return false;
    }

    // True: the next write of L1's there is an EPT violation, which let_write() takes, and by then
    // writes_elsewhere() tells of it where it is another processor's.
    [[nodiscard]] bool keep_unwritten(x86::Gpa<x86::L1> page);
    // For an EPT violation of L1's: whether it is such a write, which then goes through.
    [[nodiscard]] bool let_write(x86::Gpa<x86::L1> address);
    // Another value than before: a kept page may have been written by some processor.
    [[nodiscard]] std::uint64_t writes_elsewhere() const {
        return others_ ? others_->kept.writes() + others_->writes_of_l0() : 0;
    }
    // What others keep is closed here too, before this processor enters a guest.
    void close_kept();

private:
    static constexpr std::uint64_t dirty = 1ULL << 9;  // SDM 3C table 29-7
    struct Watched {
        std::uint64_t page = ~std::uint64_t{0};
        std::uint64_t* leaf = nullptr;  // with several processors: to always_dirty_
    };
    // Of a watched page, with several processors.
    struct Kept {
        bool kept = false;
        std::uint64_t writes = 0;  // when it was
    };
    [[nodiscard]] std::uint64_t* leaf_to_watch(x86::Gpa<x86::L1> page);
    void watch(x86::Gpa<x86::L1> page);
    // Whether it was not written all the same.
    bool clear(Watched& watched);
    [[nodiscard]] bool is_still_kept(const Watched& watched);
    [[nodiscard]] bool keep_everywhere(std::uint64_t page);
    // False: this page of L1's has no right to write that could be taken away.
    [[nodiscard]] bool close(x86::Gpa<x86::L1> page);

    // Splitting large pages of EPT01 takes pages of L0's that are never given back: so many, and no new page
    // is watched.
    static constexpr std::size_t most_pages = 64;

    Ept01& ept01_;
    const PagePool& pages_;
    std::size_t pages_taken_ = 0;
    std::array<Watched, 16> watched_;
    unsigned next_ = 0;
    std::optional<OtherProcessors> others_;
    std::uint64_t always_dirty_ = dirty;
    std::array<Kept, 16> kept_;  // of watched_, one by one
};

}  // namespace flatback::metal
