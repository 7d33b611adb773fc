// What UEFI leaves to an operating system, as a Linux L1 is told it: the system table, and the memory map
// (UEFI 2.10, 7.2.3). Nothing in it is trusted: every size is checked.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "metal/ground/bytes.hpp"
#include "metal/ground/memory_map.hpp"

namespace flatback::metal {

struct UefiMemory {
    Bytes map;  // descriptors, one behind the other; empty: none is known
    std::uint32_t descriptor_size = 0;
    std::uint32_t descriptor_version = 0;
    std::uint64_t system_table = 0;  // of a 64-bit firmware; 0: none is known

    // Whether a 64-bit L1 can be told of them.
    [[nodiscard]] bool is_known() const;
    // That tell_uefi_memory never writes more than this.
    [[nodiscard]] std::uint64_t most_bytes(const MemoryMap& memory) const;
};

// Writes the map to `to`, the same but for memory that the system may take and that `memory` does not call
// usable, which is reserved: L0's, for one. A kernel that is placed at random looks into this map, not into
// E820. The bytes written; `to` holds most_bytes(memory).
[[nodiscard]] std::uint64_t tell_uefi_memory(const UefiMemory& uefi, const MemoryMap& memory,
                                             std::span<std::byte> to);

// `memory` without what boot services have left behind: tables of the firmware's that a system reads at its
// start may stand there. Nothing where there is no more room in the map.
[[nodiscard]] std::optional<MemoryMap> without_boot_services(const UefiMemory& uefi, MemoryMap memory);

}  // namespace flatback::metal
