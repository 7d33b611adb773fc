#include "metal/load/multiboot2.hpp"

#include <optional>

namespace flatback::metal {
namespace {

enum class TagType : std::uint32_t {
    end = 0,
    command_line = 1,
    loader_name = 2,
    module = 3,
    boot_device = 5,
    memory_map = 6,
    vbe = 7,
    framebuffer = 8,
    efi_system_table_32 = 11,
    efi_system_table_64 = 12,
    acpi_old = 14,
    acpi_new = 15,
    efi_memory_map = 17,
};

constexpr std::uint64_t header_size = 8;  // of the structure and of each tag
constexpr std::uint8_t framebuffer_ega_text = 2;

using Outcome = std::optional<BootError>;  // absent: the tag is fine

// Kinds that the specification does not name are reserved memory.
MemoryKind kind_of(std::uint32_t type) {
    return type >= 1 && type <= 5 ? static_cast<MemoryKind>(type) : MemoryKind::reserved;
}

Outcome parse_module(Bytes body, Multiboot2Information& information) {
    const auto start = read<std::uint32_t>(body, 0);
    const auto end = read<std::uint32_t>(body, 4);
    if (!start || !end) return BootError{"a Multiboot2 module tag is cut short"};
    if (*end < *start) return BootError{"a Multiboot2 module ends before it starts", *start};
    const auto text = read_text(body.subspan(8));
    if (!text) return BootError{"a Multiboot2 module's string has no end", *start};
    if (!information.modules.push_back({{*start, *end}, *text})) {
        return BootError{"there are too many Multiboot2 modules; pass fewer than this",
                         Multiboot2Information::most_modules};
    }
    return {};
}

Outcome parse_memory_map(Bytes body, Multiboot2Information& information) {
    constexpr std::uint32_t least_entry_size = 24;
    const auto entry_size = read<std::uint32_t>(body, 0);
    if (!entry_size || *entry_size < least_entry_size || body.size() < 8) {
        return BootError{"the Multiboot2 memory map has entries of a wrong size"};
    }
    for (std::uint64_t at = 8; at + least_entry_size <= body.size(); at += *entry_size) {
        const std::uint64_t start = *read<std::uint64_t>(body, at);
        const std::uint64_t length = *read<std::uint64_t>(body, at + 8);
        const std::uint32_t type = *read<std::uint32_t>(body, at + 16);
        if (start + length < start) return BootError{"a range of the memory map wraps around", start};
        if (!information.memory.add({start, start + length}, kind_of(type))) {
            return BootError{"the memory map has too many ranges", MemoryMap::capacity};
        }
    }
    return {};
}

Outcome parse_tag(TagType type, Bytes body, Multiboot2Information& information) {
    switch (type) {
        case TagType::command_line: {
            const auto text = read_text(body);
            if (!text) return BootError{"the Multiboot2 command line has no end"};
            information.command_line = *text;
            return {};
        }
        case TagType::loader_name: {
            const auto text = read_text(body);
            if (!text) return BootError{"the Multiboot2 boot loader's name has no end"};
            information.loader_name = *text;
            return {};
        }
        case TagType::boot_device: {
            const auto drive = read<std::uint32_t>(body, 0);
            const auto partition = read<std::uint32_t>(body, 4);
            const auto part = read<std::uint32_t>(body, 8);
            if (!drive || !partition || !part) return BootError{"the Multiboot2 boot device is cut short"};
            information.boot_device = *drive << 24 | (*partition & 0xFF) << 16 | (*part & 0xFF) << 8 | 0xFF;
            return {};
        }
        case TagType::vbe:
            if (body.size() >= 8 + 512 + 256) information.vbe = body;
            return {};
        case TagType::module:
            return parse_module(body, information);
        case TagType::memory_map:
            return parse_memory_map(body, information);
        case TagType::framebuffer: {
            constexpr std::uint64_t type_offset = 21;  // after address, pitch, width, height and depth
            if (body.size() >= type_offset + 3) information.framebuffer = body;
            information.has_text_screen = read<std::uint8_t>(body, type_offset) == framebuffer_ega_text;
            return {};
        }
        case TagType::efi_system_table_32:
            information.from_uefi = true;
            return {};
        case TagType::efi_system_table_64:
            information.from_uefi = true;
            information.uefi.system_table = read<std::uint64_t>(body, 0).value_or(0);
            return {};
        case TagType::efi_memory_map:
            information.from_uefi = true;
            if (body.size() < 8) return {};
            information.uefi.descriptor_size = *read<std::uint32_t>(body, 0);
            information.uefi.descriptor_version = *read<std::uint32_t>(body, 4);
            information.uefi.map = body.subspan(8);
            return {};
        case TagType::acpi_old:
            if (information.rsdp.empty()) information.rsdp = body;
            return {};
        case TagType::acpi_new:
            information.rsdp = body;
            return {};
        default:
            return {};  // tags that L0 has no use for
    }
}

}  // namespace

std::expected<Multiboot2Information, BootError> parse_multiboot2(Bytes bytes) {
    const auto total_size = read<std::uint32_t>(bytes, 0);
    if (!total_size || *total_size < header_size || *total_size > bytes.size()) {
        return std::unexpected(BootError{"the Multiboot2 information has a wrong size", total_size});
    }
    bytes = bytes.first(*total_size);

    Multiboot2Information information;
    for (std::uint64_t at = header_size; at < bytes.size();) {
        const auto type = read<std::uint32_t>(bytes, at);
        const auto size = read<std::uint32_t>(bytes, at + 4);
        if (!type || !size || *size < header_size) {
            return std::unexpected(BootError{"a Multiboot2 tag is malformed at offset", at});
        }
        const auto tag = slice(bytes, at, *size);
        if (!tag) return std::unexpected(BootError{"a Multiboot2 tag reaches past the end at offset", at});
        if (static_cast<TagType>(*type) == TagType::end) {
            if (information.memory.entries().empty()) {
                return std::unexpected(
                    BootError{"the boot loader gave no memory map; start Flatback with GRUB 2"});
            }
            return information;
        }
        if (const Outcome error =
                parse_tag(static_cast<TagType>(*type), tag->subspan(header_size), information)) {
            return std::unexpected(*error);
        }
        at += (std::uint64_t{*size} + 7) & ~std::uint64_t{7};
    }
    return std::unexpected(BootError{"the Multiboot2 information has no end tag"});
}

}  // namespace flatback::metal
