// The Multiboot2 information structure that GRUB hands over ("Multiboot2 Specification", section 3.6).
// Nothing in it is trusted: every size and offset is checked against the bytes that are there.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string_view>

#include "metal/ground/boot_error.hpp"
#include "metal/ground/bytes.hpp"
#include "metal/ground/inline_vector.hpp"
#include "metal/ground/memory_map.hpp"
#include "metal/load/uefi_memory.hpp"

namespace flatback::metal {

inline constexpr std::uint32_t multiboot2_magic = 0x36D76289;  // in EAX at the entry

struct Module {
    PhysicalRange range;
    std::string_view command_line;
};

struct Multiboot2Information {
    static constexpr std::size_t most_modules = 64;

    std::string_view command_line;
    InlineVector<Module, most_modules> modules;
    MemoryMap memory;
    std::string_view loader_name;  // empty if none
    std::optional<std::uint32_t>
        boot_device;  // as Multiboot 1 has it: drive, partition and its parts, from the top
    Bytes vbe;  // mode, interface segment, offset and length (2 bytes each), then 512 and 256 bytes of VBE's;
                // or empty
    Bytes framebuffer;  // address (8 bytes), pitch, width, height (4 each), depth, type, 2 bytes, colours; or
                        // empty
    Bytes rsdp;         // a copy of ACPI's root pointer, the new form where both are given; empty if none
    bool has_text_screen = false;  // the screen is in EGA text mode
    bool from_uefi = false;        // the firmware is UEFI, whose boot services the loader has left
    UefiMemory uefi{};
};

// The views of the result point into `bytes`, which start at the structure and hold at least its total size.
[[nodiscard]] std::expected<Multiboot2Information, BootError> parse_multiboot2(Bytes bytes);

}  // namespace flatback::metal
