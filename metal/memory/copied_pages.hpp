// Pages of L1's of which some processor uses a copy, such as MSR bitmaps: with several processors, each has
// an EPT01 of its own, so that a write is noticed only once every one of them has had the right to write
// taken away there. What all processors know of that.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "metal/ground/inline_vector.hpp"
#include "metal/ground/spin_lock.hpp"

namespace flatback::metal {

// A page is closed on a processor while L1's writes there are violations of that processor's EPT01. One that
// is closed wherever L1 runs is kept: writes() counts before any write to it happens.
//
// Touches no hardware. Any processor calls any function at any time; what closes a page, or opens it again,
// is done by the processor whose EPT01 it is.
class CopiedPages final {
public:
    using Processors = std::uint64_t;  // a bit each
    static constexpr std::size_t most_pages = 64;

    // How many writes were noticed by now: of a copy that was made when the page was kept nothing has changed
    // while this is the same.
    [[nodiscard]] std::uint64_t writes() const { return writes_.load(std::memory_order_acquire); }
    // A processor that begins to run L1 cannot close a page.
    void doubt() { writes_.fetch_add(1, std::memory_order_acq_rel); }

    struct Answer {
        bool kept = false;
        Processors to_ask = 0;  // these have to close it and were not asked yet: close() there
    };
    // running(): the processors that run L1. One that does not, closes all pages before it does.
    template <typename Running>
    [[nodiscard]] Answer keep(std::uint64_t page, Running&& running) {
        const SpinLockGuard guard{lock_};
        Page* const found = find_or_take(page);
        if (found == nullptr) return {};
        // Under the lock: one that begins to run now closes what it finds here, or is found running.
        const Processors open = running() & ~found->closed;
        if (open == 0) return {true, 0};
        if (found->patience != 0) {
            --found->patience;
            return {};
        }
        const Processors to_ask = open & ~found->asked;
        found->asked |= to_ask;
        return {false, to_ask};
    }

    using List = InlineVector<std::uint64_t, most_pages>;
    // What this processor has not closed yet.
    [[nodiscard]] List to_close(unsigned processor);
    // It has: no translation of its own lets it write there any more.
    void closed(unsigned processor, const List& pages);
    // L1 is about to write there on this processor, which lets it.
    void open(unsigned processor, std::uint64_t page);

private:
    static constexpr std::uint64_t none = ~std::uint64_t{0};
    // A page that L1 writes all the time is better copied all the time: so often is that done after a write
    // before it is closed again, twice as often each time.
    static constexpr std::uint32_t most_patience = 4096;
    static constexpr std::uint32_t refusals_before_one_goes = 1024;
    struct Page {
        std::uint64_t page = none;
        Processors closed = 0;
        Processors asked = 0;
        std::uint32_t patience = 0;
        std::uint32_t next_patience = 0;
    };
    [[nodiscard]] Page* find(std::uint64_t page);
    [[nodiscard]] Page* find_or_take(std::uint64_t page);
    static Processors bit(unsigned processor) { return Processors{1} << processor; }

    std::atomic<std::uint64_t> writes_{0};
    SpinLock lock_;  // of what follows
    std::array<Page, most_pages> pages_{};
    std::uint32_t refused_ = 0;  // how often there was no place for a page
    std::uint32_t next_ = 0;
};

}  // namespace flatback::metal
