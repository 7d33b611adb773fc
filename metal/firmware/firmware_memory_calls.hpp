// The firmware's calls by which a real-mode program asks for memory: INT 15H (E820H, E801H, E881H, 88H) and
// INT 12H.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>

#include "metal/ground/boot_error.hpp"
#include "metal/ground/memory_map.hpp"

namespace flatback::metal {

// What the calls answer.
struct MemorySizes {
    std::uint16_t kilobytes_below_16m = 0;  // of usable memory in one piece from 1 MB on, at most 15 MB
    std::uint16_t pieces_above_16m = 0;     // units of 64 KB, from 16 MB on
    std::uint16_t kilobytes_88 = 0;         // from 1 MB on, at most 63 MB, as firmware limits it
    friend bool operator==(const MemorySizes&, const MemorySizes&) = default;
};
[[nodiscard]] MemorySizes memory_sizes(const MemoryMap& memory);

// Puts a handler for INT 15H into 4 KB below the firmware's base memory, which ends there from now on (INT
// 12H and the word at 413H say so), and reserves them in `memory`. The handler answers by `memory` as it is
// then: L0's region must be reserved in it already. Every other call goes on to the firmware's handler.
//
// physical: the byte at physical address 0. What is reserved; absent where there is no such firmware (the
// BIOS data area or the vector are none). Error: no room for it or in the map.
[[nodiscard]] std::expected<std::optional<PhysicalRange>, BootError> hook_firmware_memory_calls(
    std::byte* physical, MemoryMap& memory);

}  // namespace flatback::metal
