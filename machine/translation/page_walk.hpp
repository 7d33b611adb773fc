#pragma once

#include <array>
#include <cstdint>

#include "../../x86/paging_bits.hpp"
#include "../memory/physical_memory.hpp"
#include "../rules/address.hpp"
#include "access.hpp"
#include "context.hpp"
#include "ept_walk.hpp"
#include "outcome.hpp"

namespace flatback::machine {

/// What one paging-structure entry is (SDM 3A 4.5.4 and 4.7).
enum class PageEntryKind : std::uint8_t { not_present, reserved_bit, table, page };

/// Where in its table the entry of `level` for an address is. Those of 32-bit paging have four bytes (SDM
/// 3A 4.3).
[[nodiscard]] inline std::uint64_t page_entry_offset(const TranslationContext& context,
                                                     std::uint64_t linear_address, unsigned level) noexcept {
    if (context.mode != PagingMode::bits_32) [[likely]]
        return 8 * std::uint64_t{rules::structure_index(linear_address, level)};
    return 4 * std::uint64_t{rules::structure_index_of_32_bits(linear_address, level)};
}
/// A quadword, or the half of one that is an entry of four bytes.
[[nodiscard]] inline std::uint64_t page_entry_of(const TranslationContext& context, std::uint64_t address,
                                                 std::uint64_t quadword) noexcept {
    if (context.mode != PagingMode::bits_32) [[likely]]
        return quadword;
    return quadword >> (8 * (address & 4)) & 0xFFFF'FFFF;
}

/// `level` is 4 for a PML4E down to 1 for a PTE.
[[nodiscard]] PageEntryKind classify_page_entry(const TranslationContext& context, unsigned level,
                                                std::uint64_t entry) noexcept;

/// A place in the paging structures: the table of `level`, at `table_host` in host-physical memory, reached
/// through entries that grant `rights`.
struct PagePosition {
    std::uint64_t table_host = 0;
    unsigned level = 4;
    GuestRights rights{};

    friend bool operator==(const PagePosition&, const PagePosition&) = default;
};

/// The entry that maps a page, with what the entries before it grant.
struct PageMapping {
    std::uint64_t physical = 0;  // the translation of the linear address: guest-physical where EPT is in use
    PageSize size = PageSize::size_4k;
    GuestRights rights{};
    bool global = false;
    bool dirty = false;
    /// The page is the half of one of 4 MBytes, of 32-bit paging, that has the address.
    bool half_of_4m = false;
};

/// The rights after `entry`, from those before it.
[[nodiscard]] inline GuestRights accumulate(GuestRights rights, std::uint64_t entry) noexcept {
    return {rights.writable && (entry & x86::page_entry::writable) != 0,
            rights.user && (entry & x86::page_entry::user) != 0,
            rights.execute_disable || (entry & x86::page_entry::execute_disable) != 0};
}

/// The mapping that `entry`, which maps a page at `level`, gives `linear_address`; `rights` are those before
/// it.
[[nodiscard]] inline PageMapping page_mapping(const TranslationContext& context, unsigned level,
                                              std::uint64_t entry, GuestRights rights,
                                              std::uint64_t linear_address) noexcept {
    PageMapping mapping;
    mapping.size = static_cast<PageSize>(level - 1);
    if (context.mode == PagingMode::bits_32 && level == 2) [[unlikely]] {
        // SDM 3A table 4-4: bits 39:32 of the address are in 20:13.
        mapping.half_of_4m = true;
        mapping.physical = (entry & 0xFFC0'0000) | (entry >> 13 & 0xFF) << 32 | (linear_address & 0x3F'FFFF);
    } else {
        mapping.physical = page_base(entry & x86::page_entry::address_mask, mapping.size) |
                           page_offset(linear_address, mapping.size);
    }
    mapping.rights = accumulate(rights, entry);
    mapping.global = context.page_global && (entry & x86::page_entry::global) != 0;
    mapping.dirty = (entry & x86::page_entry::dirty) != 0;
    return mapping;
}

/// SDM 3A 4.6: may this access be made with these rights?
[[nodiscard]] inline bool permits(const TranslationContext& context, GuestRights rights,
                                  Access access) noexcept {
    if (access.user) {
        if (!rights.user) return false;
        if (access.kind == AccessKind::write) return rights.writable;
        return access.kind != AccessKind::fetch || !rights.execute_disable;
    }
    switch (access.kind) {
        case AccessKind::fetch:
            return !rights.execute_disable && !(rights.user && context.supervisor_no_execute_user);
        case AccessKind::read:
            return !(rights.user && context.supervisor_no_access_user);
        case AccessKind::write:
            if (rights.user && context.supervisor_no_access_user) return false;
            return rights.writable || !context.write_protect;
    }
    return false;
}

/// The error code of a page fault. `present`: not caused by a not-present entry.
[[nodiscard]] std::uint32_t page_fault_error(const TranslationContext& context, Access access, bool present,
                                             bool reserved_bit) noexcept;

/// The EPT rights that an access to the page itself needs.
[[nodiscard]] inline EptRights needed_rights(AccessKind kind) noexcept {
    switch (kind) {
        case AccessKind::read:
            return ept_read;
        case AccessKind::write:
            return ept_write;
        case AccessKind::fetch:
            return ept_execute;
    }
    return ept_read;
}

/// The qualification of an EPT violation at an access to the translation of a linear address.
[[nodiscard]] std::uint64_t final_violation(const TranslationContext& context, AccessKind kind,
                                            EptRights rights, GuestRights guest_rights) noexcept;
/// ... and at an access to a paging-structure entry. `write`: the processor had to set an accessed or dirty
/// flag.
[[nodiscard]] std::uint64_t structure_violation(const TranslationContext& context, EptRights rights,
                                                bool write) noexcept;

/// One paging-structure entry that a walk read.
struct PageWalkStep {
    PagePosition position{};
    std::uint64_t table = 0;  // the table's guest-physical address; equal to position.table_host without EPT
    std::uint64_t entry_address = 0;
    std::uint64_t entry = 0;
    EptWalk ept{};  // of `table`, where EPT is in use
    /// For what `ept` was walked: while nothing of it changes, the next walk with this object takes it over.
    struct EptKey {
        const PhysicalMemory* memory = nullptr;
        std::uint64_t structure_version = 0;
        std::uint64_t table = 0;
        EptContext context{};
        unsigned physical_address_bits = 0;

        friend bool operator==(const EptKey&, const EptKey&) = default;
    };
    EptKey ept_of{};
};

/// The walk for one access as memory is now, using nothing cached. It sets no flag.
struct PageWalk {
    Outcome outcome{};
    unsigned reads = 0;
    /// Every paging-structure entry used has A = 1.
    bool accessed = true;
    /// The entry that maps the page was reached: `mapping` holds (also where its rights do not permit the
    /// access).
    bool mapped = false;
    /// EPT translated the final address: `final_ept` holds.
    bool final_ept_walked = false;
    PageMapping mapping{};
    EptWalk final_ept{};
    std::array<PageWalkStep, 4> steps{};
};

void walk_pages(const PhysicalMemory& memory, const TranslationContext& context, std::uint64_t linear_address,
                Access access, PageWalk& walk);

/// Sets the accessed and dirty flags, the guest's and EPT's, of a walk whose outcome is `translated`.
void set_page_flags(PhysicalMemory& memory, const TranslationContext& context, const PageWalk& walk,
                    Access access);

}  // namespace flatback::machine
