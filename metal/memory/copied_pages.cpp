#include "metal/memory/copied_pages.hpp"

#include <algorithm>

namespace flatback::metal {

CopiedPages::Page* CopiedPages::find(std::uint64_t page) {
    const auto found = std::ranges::find(pages_, page, &Page::page);
    return found == pages_.end() ? nullptr : &*found;
}

// Null: there are as many as can be, and it is not time yet for one of them to go. What goes may be closed
// here and there: a write there is let through as a noticed one, and nobody takes it for kept any longer.
CopiedPages::Page* CopiedPages::find_or_take(std::uint64_t page) {
    if (Page* const found = find(page)) return found;
    Page* free = find(none);
    if (free == nullptr) {
        if (++refused_ % refusals_before_one_goes != 0) return nullptr;
        free = &pages_[next_++ % pages_.size()];
        writes_.fetch_add(1, std::memory_order_acq_rel);
    }
    *free = Page{};
    free->page = page;
    return free;
}

CopiedPages::List CopiedPages::to_close(unsigned processor) {
    const SpinLockGuard guard{lock_};
    List list;
    for (const Page& each : pages_) {
        if (each.page != none && (each.closed & bit(processor)) == 0) (void)list.push_back(each.page);
    }
    return list;
}

void CopiedPages::closed(unsigned processor, const List& pages) {
    const SpinLockGuard guard{lock_};
    for (const std::uint64_t page : pages.items()) {
        Page* const found = find(page);
        if (found == nullptr) continue;
        found->closed |= bit(processor);
        found->asked &= ~bit(processor);
    }
}

void CopiedPages::open(unsigned processor, std::uint64_t page) {
    const SpinLockGuard guard{lock_};
    // Before the write: whoever sees what was written also sees this.
    writes_.fetch_add(1, std::memory_order_acq_rel);
    Page* const found = find(page);
    if (found == nullptr) return;
    found->closed &= ~bit(processor);
    found->patience = found->next_patience;
    found->next_patience = std::min(std::max(2 * found->next_patience, std::uint32_t{16}), most_patience);
}

}  // namespace flatback::metal
