#pragma once

#include <array>
#include <cstdint>

#include "../memory/physical_memory.hpp"
#include "access.hpp"
#include "context.hpp"

namespace flatback::machine {

/// What one EPT entry is (SDM 3C 29.3.2 and 29.3.3.1).
enum class EptEntryKind : std::uint8_t { not_present, misconfigured, table, page };

/// `level` is 4 for an EPT PML4E down to 1 for an EPT PTE.
[[nodiscard]] EptEntryKind classify_ept_entry(const EptContext& ept, unsigned physical_address_bits,
                                              unsigned level, std::uint64_t entry) noexcept;

/// A place in the EPT structures: the table of `level` at `table`, reached through entries that grant
/// `rights`.
struct EptPosition {
    std::uint64_t table = 0;
    unsigned level = 4;
    EptRights rights = ept_all_rights;

    friend bool operator==(const EptPosition&, const EptPosition&) = default;
};

/// The walk of the EPT structures for one guest-physical address, as memory is now. It sets no flag.
struct EptWalk {
    enum class Result : std::uint8_t { translated, not_present, misconfigured };

    Result result = Result::not_present;
    PageSize size = PageSize::size_4k;
    /// The AND over the entries used; 0 where one is not present.
    EptRights rights = 0;
    /// Bit 9 of the entry that maps the page (D), and whether bit 8 (A) is set in every entry used.
    bool dirty = false;
    bool accessed = true;
    unsigned reads = 0;
    std::uint64_t host_physical = 0;
    /// For each entry read, in order: the position it was read at, its address and its value.
    std::array<EptPosition, 4> positions{};
    std::array<std::uint64_t, 4> entry_addresses{};
    std::array<std::uint64_t, 4> entries{};
};

[[nodiscard]] inline EptPosition ept_start(const EptContext& ept) {
    return {ept.root(), 4, ept_all_rights};
}

/// Only the first `walk.reads` elements of the arrays are written.
void walk_ept(const PhysicalMemory& memory, const EptContext& ept, unsigned physical_address_bits,
              std::uint64_t guest_physical, EptPosition start, EptWalk& walk);

[[nodiscard]] inline EptWalk walk_ept(const PhysicalMemory& memory, const EptContext& ept,
                                      unsigned physical_address_bits, std::uint64_t guest_physical,
                                      EptPosition start) {
    EptWalk walk;
    walk_ept(memory, ept, physical_address_bits, guest_physical, start, walk);
    return walk;
}

/// Sets the accessed flags of a walk that translated, and with `dirty` the dirty flag, where EPTP bit 6 asks
/// for it (SDM 3C 29.3.5).
void set_ept_flags(PhysicalMemory& memory, const EptContext& ept, const EptWalk& walk, bool dirty);

}  // namespace flatback::machine
