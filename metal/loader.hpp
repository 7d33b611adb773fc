// L1 into memory, ready to start: Linux by its 64-bit boot protocol, or a Multiboot 1 kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>

#include "metal/boot_error.hpp"
#include "metal/boot_result.hpp"
#include "metal/bytes.hpp"
#include "metal/memory_map.hpp"
#include "metal/multiboot2.hpp"

namespace flatback::metal {

struct LoadRequest {
    std::byte* physical = nullptr;  // the byte at physical address 0, and from there physical_size bytes
    std::uint64_t physical_size = 0;
    MemoryMap memory;                 // as L1 shall see it: L0's region is reserved
    std::span<const Module> modules;  // [0] is L1's kernel, the rest are its modules
    std::string_view
        loader_name;  // of L0's own boot loader, as Multiboot2Information has it, and the next three
    std::optional<std::uint32_t> boot_device;
    Bytes vbe;
    Bytes framebuffer;
    Bytes rsdp;  // ACPI's root pointer; may be empty
    bool has_text_screen = false;
};

// Every image is hostile: whatever does not fit, overlaps, or lies outside of usable memory is refused.
// Memory is only written once the whole plan is known to be sound, except for modules that are moved out of
// the way.
[[nodiscard]] std::expected<L1Start, BootError> load_l1(const LoadRequest& request);

}  // namespace flatback::metal
