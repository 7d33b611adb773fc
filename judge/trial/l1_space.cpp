#include "judge/trial/l1_space.hpp"

#include <algorithm>

#include "vmx/ept.hpp"
#include "x86/address.hpp"

namespace flatback::machine {

namespace {

constexpr std::uint64_t table_flags = vmx::ept_entry::permissions;
constexpr std::uint64_t leaf_flags =
    vmx::ept_entry::permissions | vmx::ept_entry::memory_type(x86::MemoryType::write_back);
constexpr std::uint64_t page_mask = ~std::uint64_t{0xFFF};

unsigned shift_of(unsigned level) {
    return 12 + 9 * (level - 1);
}

}  // namespace

std::optional<std::uint64_t> L0Pages::allocate() {
    if (next_ - first >= limit_) return std::nullopt;
    const std::uint64_t page = next_;
    next_ += x86::page_size;
    static_cast<void>(memory_.direct_page(page));
    return page;
}

L1Space::L1Space(PhysicalMemory& memory, L0Pages& pages, unsigned vm)
    : memory_(memory),
      pages_(pages),
      offset_((std::uint64_t{vm} + 1) << address_bits),
      root_(*pages.allocate()) {
    // What an earlier VM of this number left there is not for this one.
    for (const std::uint64_t frame : memory_.frames_in_use()) {
        const std::uint64_t page = frame << 12;
        if (page >= offset_ && page - offset_ < bytes)
            std::fill_n(memory_.direct_page(page), x86::page_size / 8, std::uint64_t{0});
    }
    memory_.note_direct_writes();
    const std::uint64_t directory = *pages.allocate();
    memory_.write(root_, directory | table_flags);
    for (std::uint64_t gigabyte = 0; gigabyte < bytes >> 30; ++gigabyte) {
        memory_.write(directory + 8 * gigabyte,
                      (offset_ + (gigabyte << 30)) | leaf_flags | vmx::ept_entry::page_size);
    }
}

std::uint64_t L1Space::ept01_pointer() const {
    return vmx::Eptp::make(root_, x86::MemoryType::write_back, false).value;
}

std::optional<L1Space::Place> L1Space::host_of(std::uint64_t l1_physical) const {
    if (l1_physical >= bytes) return std::nullopt;
    std::uint64_t table = root_;
    for (unsigned level = 4;; --level) {
        const unsigned shift = shift_of(level);
        const std::uint64_t entry = memory_.read(table + 8 * ((l1_physical >> shift) & 511));
        const std::uint64_t address = entry & vmx::ept_entry::address_mask;
        if (level == 1 || (entry & vmx::ept_entry::page_size) != 0) {
            const std::uint64_t in_page = (std::uint64_t{1} << shift) - 1;
            return Place{(address & ~in_page) | (l1_physical & in_page), shift};
        }
        table = address;
    }
}

std::optional<std::uint64_t> L1Space::l1_of(std::uint64_t host) const {
    if (const auto found = moved_back_.find(host & page_mask); found != moved_back_.end()) {
        return found->second | (host & ~page_mask);
    }
    if (host < offset_ || host - offset_ >= bytes || moved_.contains((host - offset_) & page_mask))
        return std::nullopt;
    return host - offset_;
}

/// The table of the level below `level`'s entry for an address; a large page is split.
std::uint64_t L1Space::table_below(std::uint64_t table, unsigned level, std::uint64_t l1_physical) {
    const std::uint64_t slot = table + 8 * ((l1_physical >> shift_of(level)) & 511);
    const std::uint64_t entry = memory_.read(slot);
    if ((entry & vmx::ept_entry::page_size) == 0) return entry & vmx::ept_entry::address_mask;
    const std::uint64_t below = *pages_.allocate();
    const unsigned shift = shift_of(level - 1);
    const std::uint64_t size_bit = level - 1 > 1 ? vmx::ept_entry::page_size : 0;
    for (std::uint64_t index = 0; index < 512; ++index) {
        memory_.write(below + 8 * index,
                      ((entry & vmx::ept_entry::address_mask) + (index << shift)) | leaf_flags | size_bit);
    }
    memory_.write(slot, below | table_flags);
    return below;
}

bool L1Space::move_page(std::uint64_t l1_physical) {
    const std::uint64_t page = l1_physical & page_mask;
    const auto old = host_of(page);
    const auto fresh = old ? pages_.allocate() : std::nullopt;
    if (!fresh) return false;
    for (std::uint64_t offset = 0; offset < x86::page_size; offset += 8) {
        memory_.write(*fresh + offset, memory_.read(old->host + offset));
        memory_.write(old->host + offset, secret);
    }
    const std::uint64_t table = table_below(table_below(table_below(root_, 4, page), 3, page), 2, page);
    memory_.write(table + 8 * ((page >> 12) & 511), *fresh | leaf_flags);
    moved_back_.erase(old->host);
    moved_[page] = *fresh;
    moved_back_[*fresh] = page;
    return true;
}

}  // namespace flatback::machine
