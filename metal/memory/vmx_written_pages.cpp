#include "metal/ground/vmx_instructions.hpp"
#include "metal/memory/ept01.hpp"
#include "metal/memory/page_pool.hpp"
#include "metal/memory/written_pages.hpp"
#include "vmx/ept.hpp"

namespace flatback::metal {

static_assert(vmx::ept_entry::dirty == 1ULL << 9);

namespace {
// In an entry of EPT01, a bit that the processor ignores: the page is read-only for keep_unwritten() alone.
constexpr std::uint64_t kept_unwritten = 1ULL << 53;
}  // namespace

// Null: not to be had, or not any longer.
std::uint64_t* WrittenPages::leaf_to_watch(x86::Gpa<x86::L1> page) {
    if (pages_taken_ >= most_pages) return nullptr;
    const std::size_t before = pages_.free_pages();
    std::uint64_t* leaf = ept01_.leaf_of_4k(page, Ept01::Use::to_watch);
    pages_taken_ += before - pages_.free_pages();
    return leaf;
}

void WrittenPages::watch(x86::Gpa<x86::L1> page) {
    if (!ept01_.sets_dirty_flags() || !alone_) return;
    std::uint64_t* leaf = leaf_to_watch(page);
    if (leaf == nullptr) return;
    Watched& watched = watched_[next_++ % watched_.size()];
    watched = {page.value(), leaf};
    clear(watched);  // its INVEPT also drops the large page that may have been split
}

bool WrittenPages::keep_unwritten(x86::Gpa<x86::L1> page) {
    if (!alone_) return false;
    std::uint64_t* leaf = leaf_to_watch(page);
    if (leaf == nullptr) return false;
    if ((*leaf & kept_unwritten) != 0) return true;
    if ((*leaf & vmx::ept_entry::write) == 0) return false;  // where there is no memory, writes vanish
    __atomic_fetch_and(leaf, ~vmx::ept_entry::write, __ATOMIC_RELAXED);
    __atomic_fetch_or(leaf, kept_unwritten, __ATOMIC_RELAXED);
    invept(vmx::InveptType::single_context, {ept01_.pointer().value, 0});
    return true;
}

// No INVEPT: the violation itself has dropped the translation (SDM 3C 29.4.3.1).
bool WrittenPages::let_write(x86::Gpa<x86::L1> address) {
    std::uint64_t* leaf = ept01_.found_leaf_of_4k(address);
    if (leaf == nullptr || (*leaf & kept_unwritten) == 0) return false;
    __atomic_fetch_or(leaf, vmx::ept_entry::write, __ATOMIC_RELAXED);
    __atomic_fetch_and(leaf, ~kept_unwritten, __ATOMIC_RELAXED);
    return true;
}

// The processor sets the flag again only once it has forgotten the translation.
void WrittenPages::clear(Watched& watched) {
    __atomic_fetch_and(watched.leaf, ~dirty, __ATOMIC_RELAXED);
    invept(vmx::InveptType::single_context, {ept01_.pointer().value, 0});
}

}  // namespace flatback::metal
