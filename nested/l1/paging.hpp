// How L1's own paging translates a linear address that an instruction of its names which L0 completes (SDM 3A
// chapter 4): 4-level, PAE, 32-bit and no paging. The accesses are data accesses of L1's, of supervisor mode
// but for INS and OUTS: its faults come back as it would see them, and its accessed and dirty flags are set,
// each in the very entry that was read.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "../../x86/address.hpp"
#include "../../x86/control_registers.hpp"
#include "../../x86/expected.hpp"
#include "../../x86/paging.hpp"
#include "../../x86/words.hpp"

namespace flatback::nested {

struct L1PagingState {
    std::uint64_t cr0;
    std::uint64_t cr3;
    std::uint64_t cr4;
    std::uint64_t efer;
    bool alignment_check;  // RFLAGS.AC: lifts SMAP
    unsigned physical_address_width;
    std::array<std::uint64_t, 4>
        pdptes{};  // PAE paging: the registers, not what memory has now (SDM 3A 4.4.1)
    std::uint32_t protection_key_rights = 0;  // PKRU; looked at where CR4.PKE is 1
    bool user_mode = false;                   // of the access, else supervisor mode

    [[nodiscard]] bool long_mode() const { return (efer & x86::efer::long_mode_active) != 0; }
};

// The error code of the #PF (SDM 3A 4.7).
using PageFaultCode = std::uint32_t;
// No #PF: another processor kept changing an entry of the walk, and the instruction is to begin again.
inline constexpr PageFaultCode walk_was_overtaken = ~PageFaultCode{0};

// The physical memory that a guest's paging structures lie in: of L1's, its Port.
template <typename M>
concept WalkedMemory = requires(M& memory, x86::Gpa<x86::L1> address) {
    { memory.l1_page(address) } -> std::same_as<std::byte*>;
};

namespace detail {
// One level of a walk in tables with entries of `Word`.
template <typename Word, WalkedMemory P>
Word* table_entry(P& port, std::uint64_t table, std::uint64_t index) {
    const std::uint64_t address = table + index * sizeof(Word);
    auto* page = port.l1_page(x86::Gpa<x86::L1>{address});
    return page == nullptr ? nullptr : reinterpret_cast<Word*>(page + (address & 0xfff));
}

// Sets flags in the entry that was read as `seen`. False: it is another one by now, or the memory cannot be
// written, which whoever gives it knows.
template <typename Word, WalkedMemory P>
bool set_flags(P& memory, std::uint64_t table, std::uint64_t index, Word* slot, Word seen,
               std::uint64_t flags) {
    if constexpr (requires { memory.takes_flags(x86::Gpa<x86::L1>{}); }) {
        const x86::Gpa<x86::L1> entry{table + index * sizeof(Word)};
        if ((seen & flags) != flags && !memory.takes_flags(entry)) return false;
    }
    return x86::set_bits(slot, seen, flags);
}

// The bits of a fault's error code that are the access's own.
constexpr PageFaultCode access_code(const L1PagingState& state, bool write) {
    return (write ? x86::page_fault::write : 0) | (state.user_mode ? x86::page_fault::user : 0);
}

// What the levels of a walk allow together, for a data access.
struct WalkRights {
    std::uint64_t user = x86::page_entry::user;
    std::uint64_t writable = x86::page_entry::writable;

    void pass(std::uint64_t entry) {
        user &= entry;
        writable &= entry;
    }
    // leaf: the entry that maps the page. The fault's bits besides "write"; 0: allowed.
    [[nodiscard]] PageFaultCode fault(const L1PagingState& state, std::uint64_t leaf, bool write) const {
        using x86::page_fault::present;
        const bool write_protected = write && (state.user_mode || (state.cr0 & x86::cr0::write_protect) != 0);
        if (write_protected && writable == 0) return present;
        if (user == 0) return state.user_mode ? present : 0;
        if ((state.cr4 & x86::cr4::smap_enable) != 0 && !state.user_mode && !state.alignment_check)
            return present;
        if ((state.cr4 & x86::cr4::protection_key_enable) != 0 && state.long_mode()) {  // SDM 3A 4.6.2
            const std::uint32_t key = state.protection_key_rights >> (2 * ((leaf >> 59) & 15));
            if ((key & 1) != 0 || (write_protected && (key & 2) != 0)) {
                return present | x86::page_fault::protection_key;
            }
        }
        return 0;
    }
};

using WalkResult = Expected<x86::Gpa<x86::L1>, PageFaultCode>;

inline x86::Gpa<x86::L1> in_page(std::uint64_t frame, std::uint64_t linear, unsigned shift) {
    const std::uint64_t offset = (std::uint64_t{1} << shift) - 1;
    return x86::Gpa<x86::L1>{(frame & ~offset) | (linear & offset)};
}

// 32-bit paging: two levels of 1024 entries. nullopt: overtaken.
template <WalkedMemory P>
std::optional<WalkResult> walk_32_bit(P& port, const L1PagingState& state, std::uint64_t linear, bool write) {
    using x86::page_fault::present, x86::page_fault::reserved_bit;
    const PageFaultCode base = access_code(state, write);
    const std::uint64_t used = x86::page_entry::accessed | (write ? x86::page_entry::dirty : 0);
    WalkRights rights;
    std::uint64_t table = state.cr3 & 0xfffff000;
    for (unsigned level = 2;; --level) {
        const unsigned shift = level == 2 ? 22 : 12;
        const std::uint64_t index = (linear >> shift) & 0x3ff;
        auto* slot = table_entry<std::uint32_t>(port, table, index);
        if (slot == nullptr) return Unexpected{base};
        const std::uint32_t entry = x86::read_word(slot);
        if ((entry & x86::page_entry::present) == 0) return Unexpected{base};
        rights.pass(entry);
        std::uint64_t frame = entry & 0xfffff000;
        const bool large = level == 2 && (entry & x86::page_entry::page_size) != 0 &&
                           (state.cr4 & x86::cr4::page_size_extensions) != 0;
        if (large) {
            // Bits 20:13 are the address's 39:32, as far as the processor has them; what is left up to
            // bit 21 is reserved (SDM 3A table 4-4).
            const unsigned address_bits = std::min(state.physical_address_width, 40U) - 32;
            const std::uint32_t reserved = 0x3fe000U & ~(((1U << address_bits) - 1) << 13);
            if ((entry & reserved) != 0) return Unexpected{base | present | reserved_bit};
            frame = (entry & 0xffc00000) | (std::uint64_t{entry & 0x1fe000U} << 19);
        }
        if (level == 1 || large) {
            if (const auto fault = rights.fault(state, entry, write)) return Unexpected{base | fault};
            if (!set_flags(port, table, index, slot, entry, used)) return std::nullopt;
            return in_page(frame, linear, shift);
        }
        if (!set_flags(port, table, index, slot, entry, x86::page_entry::accessed)) return std::nullopt;
        table = frame;
    }
}

// 4-level paging, and PAE paging, whose first level is in registers. nullopt: overtaken.
template <WalkedMemory P>
std::optional<WalkResult> walk_64_bit_entries(P& port, const L1PagingState& state, std::uint64_t linear,
                                              bool write) {
    using x86::page_fault::present, x86::page_fault::reserved_bit;
    const PageFaultCode base = access_code(state, write);
    const std::uint64_t used = x86::page_entry::accessed | (write ? x86::page_entry::dirty : 0);
    const std::uint64_t address_mask = 0x000ffffffffff000;
    const std::uint64_t too_wide = address_mask & ~((std::uint64_t{1} << state.physical_address_width) - 1);
    WalkRights rights;
    std::uint64_t table = state.cr3 & address_mask;
    unsigned level = 4;
    if (!state.long_mode()) {
        const std::uint64_t pointer = state.pdptes[(linear >> 30) & 3];  // checked when it was loaded
        if ((pointer & x86::page_entry::present) == 0) return Unexpected{base};
        table = pointer & address_mask;
        level = 2;
    }
    for (;; --level) {
        const unsigned shift = 12 + 9 * (level - 1);
        const std::uint64_t index = (linear >> shift) & 0x1ff;
        auto* slot = table_entry<std::uint64_t>(port, table, index);
        if (slot == nullptr) return Unexpected{base};
        const std::uint64_t entry = x86::read_word(slot);
        if ((entry & x86::page_entry::present) == 0) return Unexpected{base};
        const bool execute_disable_reserved = (state.efer & x86::efer::execute_disable_enable) == 0;
        const bool large = level != 1 && (entry & x86::page_entry::page_size) != 0;
        const std::uint64_t between = large ? ((std::uint64_t{1} << shift) - 1) & 0x000fffffffffe000 : 0;
        if ((entry & (too_wide | between)) != 0 || ((entry >> 63) != 0 && execute_disable_reserved) ||
            (large && level == 4)) {
            return Unexpected{base | present | reserved_bit};
        }
        rights.pass(entry);
        if (level == 1 || large) {
            if (const auto fault = rights.fault(state, entry, write)) return Unexpected{base | fault};
            if (!set_flags(port, table, index, slot, entry, used)) return std::nullopt;
            return in_page(entry & address_mask, linear, shift);
        }
        if (!set_flags(port, table, index, slot, entry, x86::page_entry::accessed)) return std::nullopt;
        table = entry & address_mask;
    }
}
}  // namespace detail

template <WalkedMemory P>
detail::WalkResult translate_l1(P& port, const L1PagingState& state, std::uint64_t linear, bool write) {
    if ((state.cr0 & x86::cr0::paging) == 0) return x86::Gpa<x86::L1>{linear & 0xffffffff};
    const bool wide_entries = (state.cr4 & x86::cr4::physical_address_extension) != 0;
    // Each time it is overtaken somebody else got further; but L0's time is not theirs to spend.
    constexpr unsigned attempts = 16;
    for (unsigned attempt = 0; attempt < attempts; ++attempt) {
        const auto result = wide_entries ? detail::walk_64_bit_entries(port, state, linear, write)
                                         : detail::walk_32_bit(port, state, linear, write);
        if (result) return *result;
    }
    return Unexpected{walk_was_overtaken};
}

}  // namespace flatback::nested
