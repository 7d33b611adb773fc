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
    if (!others_ && !ept01_.sets_dirty_flags()) return;
    std::uint64_t* leaf = others_ ? &always_dirty_ : leaf_to_watch(page);
    if (leaf == nullptr) return;
    const std::size_t index = next_++ % watched_.size();
    Watched& watched = watched_[index];
    watched = {page.value(), leaf};
    kept_[index] = {};
    (void)clear(watched);  // its INVEPT also drops the large page that may have been split
}

// The processor sets the flag again only once it has forgotten the translation.
bool WrittenPages::clear(Watched& watched) {
    if (others_) return is_still_kept(watched);
    __atomic_fetch_and(watched.leaf, ~dirty, __ATOMIC_RELAXED);
    invept(vmx::InveptType::single_context, {ept01_.pointer().value, 0});
    return false;
}

// The caller copies the page once this has said no: what is written behind the copy is another value of
// writes_elsewhere().
bool WrittenPages::is_still_kept(const Watched& watched) {
    Kept& kept = kept_[static_cast<std::size_t>(&watched - watched_.data())];
    const std::uint64_t writes = writes_elsewhere();
    if (kept.kept && kept.writes == writes) [[likely]]
        return true;
    kept = {keep_everywhere(watched.page), writes};
    return false;
}

bool WrittenPages::keep_everywhere(std::uint64_t page) {
    const CopiedPages::Answer answer = others_->kept.keep(page, others_->running);
    for (unsigned processor = 0; answer.to_ask >> processor != 0; ++processor) {
        if ((answer.to_ask >> processor & 1) == 0) continue;
        if (processor == others_->here) {
            close_kept();
        } else {
            others_->ask(processor);
        }
    }
    return answer.kept;
}

bool WrittenPages::close(x86::Gpa<x86::L1> page) {
    std::uint64_t* leaf = leaf_to_watch(page);
    if (leaf == nullptr) return false;
    if ((*leaf & kept_unwritten) != 0) return true;
    if ((*leaf & vmx::ept_entry::write) == 0) return false;  // where there is no memory, writes vanish
    __atomic_fetch_and(leaf, ~vmx::ept_entry::write, __ATOMIC_RELAXED);
    __atomic_fetch_or(leaf, kept_unwritten, __ATOMIC_RELAXED);
    return true;
}

bool WrittenPages::keep_unwritten(x86::Gpa<x86::L1> page) {
    if (others_) return keep_everywhere(page.value());
    std::uint64_t* const leaf = leaf_to_watch(page);
    if (leaf != nullptr && (*leaf & kept_unwritten) != 0) return true;
    if (!close(page)) return false;
    invept(vmx::InveptType::single_context, {ept01_.pointer().value, 0});
    return true;
}

// Those that cannot be closed stay asked for, and are copied at each entry.
void WrittenPages::close_kept() {
    if (!others_) return;
    const CopiedPages::List pages = others_->kept.to_close(others_->here);
    CopiedPages::List closed;
    for (const std::uint64_t page : pages.items()) {
        if (close(x86::Gpa<x86::L1>{page})) {
            (void)closed.push_back(page);
            others_->closed_here(page);
        } else {
            others_->kept.doubt();
        }
    }
    if (closed.empty()) return;
    invept(vmx::InveptType::single_context, {ept01_.pointer().value, 0});
    others_->kept.closed(others_->here, closed);
}

// No INVEPT: the violation itself has dropped the translation (SDM 3C 29.4.3.1).
bool WrittenPages::let_write(x86::Gpa<x86::L1> address) {
    std::uint64_t* leaf = ept01_.found_leaf_of_4k(address);
    if (leaf == nullptr || (*leaf & kept_unwritten) == 0) return false;
    if (others_) others_->kept.open(others_->here, address.value() & ~std::uint64_t{0xfff});
    __atomic_fetch_or(leaf, vmx::ept_entry::write, __ATOMIC_RELAXED);
    __atomic_fetch_and(leaf, ~kept_unwritten, __ATOMIC_RELAXED);
    return true;
}

}  // namespace flatback::metal
