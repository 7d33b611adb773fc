// What the loaders of L1 are given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "metal/ground/bytes.hpp"
#include "metal/ground/memory_map.hpp"
#include "metal/load/multiboot2.hpp"

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
    bool from_uefi = false;
    UefiMemory uefi{};          // none known: L1 is told of no UEFI
    bool uefi_runtime = false;  // a Linux L1 may call runtime services
};

}  // namespace flatback::metal
