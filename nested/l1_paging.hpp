// How L1's own paging translates a linear address that one of its VMX instructions names (SDM 3A chapter 4):
// 4-level, PAE, 32-bit and no paging. The accesses are L1's supervisor-mode data accesses: its faults come
// back as it would see them, and its accessed and dirty flags are set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <expected>

#include "nested/port.hpp"
#include "x86/address.hpp"
#include "x86/control_registers.hpp"
#include "x86/paging.hpp"

namespace flatback::nested {

struct L1PagingState {
    std::uint64_t cr0;
    std::uint64_t cr3;
    std::uint64_t cr4;
    std::uint64_t efer;
    bool alignment_check;  // RFLAGS.AC: lifts SMAP
    unsigned physical_address_width;
};

// The error code of the #PF (SDM 3A 4.7).
using PageFaultCode = std::uint32_t;

namespace detail {
// One level of a walk in tables with entries of `Word`.
template <typename Word, Port P>
Word* table_entry(P& port, std::uint64_t table, std::uint64_t index) {
    const std::uint64_t address = table + index * sizeof(Word);
    auto* page = port.l1_page(x86::Gpa<x86::L1>{address});
    return page == nullptr ? nullptr : reinterpret_cast<Word*>(page + (address & 0xfff));
}
}  // namespace detail

template <Port P>
std::expected<x86::Gpa<x86::L1>, PageFaultCode> translate_l1(P& port, const L1PagingState& state,
                                                             std::uint64_t linear, bool write) {
    using x86::page_fault::present, x86::page_fault::reserved_bit;
    if ((state.cr0 & x86::cr0::paging) == 0) return x86::Gpa<x86::L1>{linear & 0xffffffff};

    const PageFaultCode base = write ? x86::page_fault::write : 0;
    std::uint64_t permissions_user = 4;
    std::uint64_t permissions_write = 2;

    const auto finish = [&](auto* slot, auto entry, unsigned shift,
                            std::uint64_t frame) -> std::expected<x86::Gpa<x86::L1>, PageFaultCode> {
        if (write && permissions_write == 0 && (state.cr0 & x86::cr0::write_protect) != 0) {
            return std::unexpected(base | present);
        }
        if (permissions_user != 0 && (state.cr4 & x86::cr4::smap_enable) != 0 && !state.alignment_check) {
            return std::unexpected(base | present);
        }
        using Word = decltype(entry);
        const Word flags =
            static_cast<Word>(x86::page_entry::accessed | (write ? x86::page_entry::dirty : 0));
        if ((entry & flags) != flags) __atomic_fetch_or(slot, flags, __ATOMIC_RELAXED);
        const std::uint64_t in_page = (std::uint64_t{1} << shift) - 1;
        return x86::Gpa<x86::L1>{(frame & ~in_page) | (linear & in_page)};
    };

    if ((state.cr4 & x86::cr4::physical_address_extension) ==
        0) {  // 32-bit paging: two levels of 1024 entries
        std::uint64_t table = state.cr3 & 0xfffff000;
        for (unsigned level = 2;; --level) {
            const unsigned shift = level == 2 ? 22 : 12;
            auto* slot = detail::table_entry<std::uint32_t>(port, table, (linear >> shift) & 0x3ff);
            if (slot == nullptr) return std::unexpected(base);
            const std::uint32_t entry = __atomic_load_n(slot, __ATOMIC_RELAXED);
            if ((entry & x86::page_entry::present) == 0) return std::unexpected(base);
            permissions_user &= entry;
            permissions_write &= entry;
            if (level == 1) return finish(slot, entry, 12, entry & 0xfffff000);
            if ((entry & x86::page_entry::page_size) != 0 &&
                (state.cr4 & x86::cr4::page_size_extensions) != 0) {
                // Bits 20:13 are the address's 39:32, as far as the processor has them; what is left up to
                // bit 21 is reserved (SDM 3A table 4-4).
                const unsigned address_bits = std::min(state.physical_address_width, 40U) - 32;
                const std::uint32_t reserved = 0x3fe000U & ~(((1U << address_bits) - 1) << 13);
                if ((entry & reserved) != 0) return std::unexpected(base | present | reserved_bit);
                const std::uint64_t frame = (entry & 0xffc00000) | (std::uint64_t{entry & 0x1fe000U} << 19);
                return finish(slot, entry, 22, frame);
            }
            if ((entry & x86::page_entry::accessed) == 0) {
                __atomic_fetch_or(slot, static_cast<std::uint32_t>(x86::page_entry::accessed),
                                  __ATOMIC_RELAXED);
            }
            table = entry & 0xfffff000;
        }
    }

    const bool long_mode = (state.efer & x86::efer::long_mode_active) != 0;
    const std::uint64_t address_mask = 0x000ffffffffff000;
    const std::uint64_t too_wide = address_mask & ~((std::uint64_t{1} << state.physical_address_width) - 1);
    std::uint64_t table = long_mode ? state.cr3 & address_mask : state.cr3 & 0xffffffe0;
    for (unsigned level = long_mode ? 4 : 3;; --level) {
        const unsigned shift = 12 + 9 * (level - 1);
        const std::uint64_t index = (linear >> shift) & (!long_mode && level == 3 ? 3 : 0x1ff);
        auto* slot = detail::table_entry<std::uint64_t>(port, table, index);
        if (slot == nullptr) return std::unexpected(base);
        const std::uint64_t entry = __atomic_load_n(slot, __ATOMIC_RELAXED);
        if ((entry & x86::page_entry::present) == 0) return std::unexpected(base);
        const bool pae_pointer = !long_mode && level == 3;
        if ((entry & too_wide) != 0 ||
            ((entry >> 63) != 0 && (state.efer & x86::efer::execute_disable_enable) == 0)) {
            return std::unexpected(base | present | reserved_bit);
        }
        if (!pae_pointer) {  // a PAE PDPTE has neither permissions nor an accessed flag
            permissions_user &= entry;
            permissions_write &= entry;
        }
        const bool large = level != 1 && !pae_pointer && (entry & x86::page_entry::page_size) != 0;
        if (large && level == 4) return std::unexpected(base | present | reserved_bit);
        if (large && (entry & (((std::uint64_t{1} << shift) - 1) & 0x000fffffffffe000)) != 0) {
            return std::unexpected(base | present | reserved_bit);
        }
        if (level == 1 || large) return finish(slot, entry, shift, entry & address_mask);
        if (!pae_pointer && (entry & x86::page_entry::accessed) == 0) {
            __atomic_fetch_or(slot, std::uint64_t{x86::page_entry::accessed}, __ATOMIC_RELAXED);
        }
        table = entry & address_mask;
    }
}

}  // namespace flatback::nested
