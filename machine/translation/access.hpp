#pragma once

#include <cstdint>

namespace flatback::machine {

enum class AccessKind : std::uint8_t { read, write, fetch };

/// One access to memory, before its address is translated.
struct Access {
    AccessKind kind = AccessKind::read;
    /// A user-mode access (CPL = 3), SDM 3A 4.6.
    bool user = false;

    friend bool operator==(const Access&, const Access&) = default;
};

/// What the paging structures grant for a linear address: the AND (for execute-disable, the OR) over the
/// entries used.
struct GuestRights {
    bool writable = true;
    bool user = true;
    bool execute_disable = false;

    friend bool operator==(const GuestRights&, const GuestRights&) = default;
};

/// What the EPT entries used grant for a guest-physical address: the AND over them, as bits 2:0 of an EPT
/// entry.
using EptRights = std::uint8_t;
inline constexpr EptRights ept_read = 1;
inline constexpr EptRights ept_write = 2;
inline constexpr EptRights ept_execute = 4;
inline constexpr EptRights ept_all_rights = 7;

/// The sizes of page that a translation can have; the value is also the level of the entry that maps it, less
/// one.
enum class PageSize : std::uint8_t { size_4k = 0, size_2m = 1, size_1g = 2 };

[[nodiscard]] constexpr unsigned page_shift(PageSize size) {
    return 12 + 9 * static_cast<unsigned>(size);
}
[[nodiscard]] constexpr std::uint64_t page_bytes(PageSize size) {
    return std::uint64_t{1} << page_shift(size);
}
[[nodiscard]] constexpr std::uint64_t page_offset(std::uint64_t address, PageSize size) {
    return address & (page_bytes(size) - 1);
}
[[nodiscard]] constexpr std::uint64_t page_base(std::uint64_t address, PageSize size) {
    return address & ~(page_bytes(size) - 1);
}

}  // namespace flatback::machine
