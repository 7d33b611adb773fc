// Copies of pages of L1's that are right until somebody writes to one of them: who may have done so, and when
// that was noticed.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../../x86/address.hpp"
#include "msr_bitmap.hpp"

namespace flatback::nested {

// When what was copied was right.
struct CopiedAt {
    std::uint64_t here = nothing;  // how many writes to L1's bitmaps had been noticed then ...
    std::uint64_t elsewhere = 0;   // ... and on other processors

    static constexpr std::uint64_t nothing = ~std::uint64_t{0};
};

// Copied as MSR bitmaps are, and for the same reason. But a host that can have L1 exit at the next write to a
// page (Port::keep_unwritten) tells of it, so that an entry only has to compare what was noticed; with MSR
// bitmaps in use that is the very comparison which they need.
template <MsrBitmapHost H>
class PageCopies final {
public:
    explicit PageCopies(H& host) : host_(host) {}

    [[nodiscard]] bool is_current(const CopiedAt& copied, const MsrBitmaps<H>& writes) {
        return copied.here == writes.noticed() && copied.elsewhere == elsewhere();
    }

    // One time of copying. From its beginning on it is noticed where a page is written that it gave.
    class Copying final {
    public:
        Copying(PageCopies& copies, MsrBitmaps<H>& writes)
            : copies_(copies), writes_(writes), elsewhere_(copies.elsewhere()) {}
        // The page of L1's, to be read now; null where there is no memory.
        [[nodiscard]] const std::byte* page(x86::Gpa<x86::L1> address) {
            watched_ = copies_.keep_unwritten(address) && watched_;
            const std::byte* const l1s = copies_.host_.l1_page(address);
            if (l1s != nullptr) writes_.notice_writes_to(l1s);
            return l1s;
        }
        // False: the host cannot tell when L1 writes to one of the pages, and they are to be copied at each
        // entry.
        [[nodiscard]] bool end(CopiedAt& copied) const {
            copied = {.here = watched_ ? writes_.noticed() : CopiedAt::nothing, .elsewhere = elsewhere_};
            return watched_;
        }

    private:
        PageCopies& copies_;
        MsrBitmaps<H>& writes_;
        std::uint64_t elsewhere_;
        bool watched_ = true;
    };

private:
    std::uint64_t elsewhere() {
        if constexpr (requires { host_.writes_elsewhere(); }) {
            return host_.writes_elsewhere();
        } else {
            return 0;
        }
    }
    bool keep_unwritten(x86::Gpa<x86::L1> page) {
        if constexpr (requires { host_.keep_unwritten(page); }) {
            return host_.keep_unwritten(page);
        } else {
            return false;
        }
    }

    H& host_;
};

}  // namespace flatback::nested
