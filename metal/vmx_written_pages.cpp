#include "metal/ept01.hpp"
#include "metal/page_pool.hpp"
#include "metal/vmx_instructions.hpp"
#include "metal/written_pages.hpp"
#include "vmx/ept.hpp"

namespace flatback::metal {

static_assert(vmx::ept_entry::dirty == 1ULL << 9);

void WrittenPages::watch(x86::Gpa<x86::L1> page) {
    if (!ept01_.sets_dirty_flags() || pages_taken_ >= most_pages) return;
    const std::size_t before = pages_.free_pages();
    std::uint64_t* leaf = ept01_.leaf_of_4k(page, Ept01::Use::to_watch);
    pages_taken_ += before - pages_.free_pages();
    if (leaf == nullptr) return;
    Watched& watched = watched_[next_++ % watched_.size()];
    watched = {page.value(), leaf};
    clear(watched);  // its INVEPT also drops the large page that may have been split
}

// The processor sets the flag again only once it has forgotten the translation.
void WrittenPages::clear(Watched& watched) {
    __atomic_fetch_and(watched.leaf, ~dirty, __ATOMIC_RELAXED);
    invept(vmx::InveptType::single_context, {ept01_.pointer().value, 0});
}

}  // namespace flatback::metal
