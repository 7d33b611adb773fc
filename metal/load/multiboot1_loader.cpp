#include "metal/load/multiboot1_loader.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "metal/load/segments.hpp"
#include "x86/paging.hpp"

namespace flatback::metal {
namespace {

constexpr std::uint32_t loader_magic = 0x2BADB002;  // in EAX at the entry

// The information structure (section 3.3) and what it points to, in one block.
// clang-format off
namespace info {
constexpr std::uint64_t flags           = 0;
constexpr std::uint64_t memory_lower    = 4;
constexpr std::uint64_t memory_upper    = 8;
constexpr std::uint64_t boot_device     = 12;
constexpr std::uint64_t command_line    = 16;
constexpr std::uint64_t modules_count   = 20;
constexpr std::uint64_t modules         = 24;
constexpr std::uint64_t sections_count  = 28;
constexpr std::uint64_t section_size    = 32;
constexpr std::uint64_t sections        = 36;
constexpr std::uint64_t names_section   = 40;
constexpr std::uint64_t map_length      = 44;
constexpr std::uint64_t map             = 48;
constexpr std::uint64_t loader_name     = 64;
constexpr std::uint64_t vbe_control     = 72;
constexpr std::uint64_t vbe_mode        = 76;
constexpr std::uint64_t vbe_words       = 80;  // mode, interface segment, offset, length
constexpr std::uint64_t framebuffer     = 88;  // 22 bytes, then 6 of colours
constexpr std::uint32_t always_valid    = 1u << 0 | 1u << 2 | 1u << 6 | 1u << 9;
constexpr std::uint32_t has_boot_device = 1u << 1;
constexpr std::uint32_t has_modules     = 1u << 3;
constexpr std::uint32_t has_sections    = 1u << 5;
constexpr std::uint32_t has_vbe         = 1u << 11;
constexpr std::uint32_t has_framebuffer = 1u << 12;
}  // namespace info
namespace block {
constexpr std::uint64_t gdt             = 0x0100;
constexpr std::uint64_t modules         = 0x0400;  // 16 bytes each
constexpr std::uint64_t stack_top       = 0x1000;
constexpr std::uint64_t map             = 0x1000;  // 24 bytes each
constexpr std::uint64_t vbe_control     = 0x1C00;  // 512 bytes
constexpr std::uint64_t vbe_mode        = 0x1E00;  // 256 bytes
constexpr std::uint64_t strings         = 0x2000;
}  // namespace block
// clang-format on
static_assert(block::modules + 16 * Multiboot2Information::most_modules < block::stack_top);
static_assert(block::map + 24 * MemoryMap::capacity <= block::vbe_control);

constexpr std::string_view own_name = "Flatback";  // where L0's own boot loader has not said its name
constexpr std::array<std::uint64_t, 3> descriptors = {0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF};
constexpr std::uint16_t code_selector = 0x08;
constexpr std::uint16_t data_selector = 0x10;

using formats::put;

// Physical addresses of the block and of all modules are below 4 GB (Placement).
void put_address(std::span<std::byte> bytes, std::uint64_t at, std::uint64_t address) {
    put(bytes, at, static_cast<std::uint32_t>(address));
}

// Kilobytes of usable memory in one piece from `start` on.
std::uint32_t kilobytes_from(const MemoryMap& memory, std::uint64_t start, std::uint64_t limit) {
    for (const MemoryEntry& entry : memory.entries()) {
        if (entry.kind == MemoryKind::usable && entry.range.contains(start)) {
            return static_cast<std::uint32_t>((std::min(entry.range.end, limit) - start) / 1024);
        }
    }
    return 0;
}

void write_memory(std::span<std::byte> bytes, std::uint64_t base, const MemoryMap& memory) {
    constexpr std::uint64_t megabyte = 0x100000;
    put(bytes, info::memory_lower, kilobytes_from(memory, 0, 0xA0000));
    put(bytes, info::memory_upper, kilobytes_from(memory, megabyte, memory_below_4g.end));
    std::uint64_t at = block::map;
    for (const MemoryEntry& entry : memory.entries()) {
        put(bytes, at, std::uint32_t{20});  // the size of the entry, this field not counted
        put(bytes, at + 4, entry.range.start);
        put(bytes, at + 12, entry.range.size());
        put(bytes, at + 20, static_cast<std::uint32_t>(entry.kind));
        at += 24;
    }
    put_address(bytes, info::map, base + block::map);
    put_address(bytes, info::map_length, at - block::map);
}

std::string_view loader_name(const LoadRequest& request) {
    return request.loader_name.empty() ? own_name : request.loader_name;
}

// The sections begin on multiples of 16, more than any table of symbols or text asks for.
constexpr std::uint64_t section_start(std::uint64_t at) {
    return (at + 15) & ~std::uint64_t{15};
}
// Sections that overlap in the file could ask for more than it has.
constexpr std::uint64_t most_section_bytes = 1ULL << 30;

// Appends text and NUL; returns its physical address.
std::uint64_t append_text(std::span<std::byte> bytes, std::uint64_t base, std::uint64_t& at,
                          std::string_view text) {
    const std::uint64_t address = base + at;
    copy_bytes(bytes.data() + at, text.data(), text.size());
    at += text.size() + 1;  // the block was zeroed
    return address;
}

// What L0's own boot loader said of the screen; returns the flags.
std::uint32_t write_screen(std::span<std::byte> bytes, std::uint64_t base, const LoadRequest& request) {
    std::uint32_t flags = 0;
    if (const Bytes vbe = request.vbe; !vbe.empty()) {
        constexpr std::uint64_t words = 8;
        constexpr std::uint64_t control_size = 512;
        constexpr std::uint64_t mode_size = 256;
        copy_bytes(bytes.data() + info::vbe_words, vbe.data(), words);
        copy_bytes(bytes.data() + block::vbe_control, vbe.data() + words, control_size);
        copy_bytes(bytes.data() + block::vbe_mode, vbe.data() + words + control_size, mode_size);
        put_address(bytes, info::vbe_control, base + block::vbe_control);
        put_address(bytes, info::vbe_mode, base + block::vbe_mode);
        flags |= info::has_vbe;
    }
    if (const Bytes framebuffer = request.framebuffer; !framebuffer.empty()) {
        constexpr std::uint64_t type = 21;
        constexpr std::uint64_t common_size = 22;
        constexpr std::uint64_t colours = 24;  // behind two reserved bytes that Multiboot 1 has not
        constexpr std::uint64_t colours_size = 6;
        constexpr std::uint8_t direct_colour = 1;
        constexpr std::uint8_t text = 2;
        const std::uint8_t kind = read<std::uint8_t>(framebuffer, type).value_or(0);
        const auto fields = slice(framebuffer, colours, colours_size);
        // A palette would need a place of its own: no boot loader of a hypervisor sets such a mode.
        if (kind == text || (kind == direct_colour && fields)) {
            copy_bytes(bytes.data() + info::framebuffer, framebuffer.data(), common_size);
            if (kind == direct_colour)
                copy_bytes(bytes.data() + info::framebuffer + common_size, fields->data(), colours_size);
            flags |= info::has_framebuffer;
        }
    }
    return flags;
}

// The table of the kernel's sections, and those that no segment has loaded (its symbols), into `place`;
// returns the flag.
std::uint32_t write_sections(std::span<std::byte> bytes, const Placement& placement, PhysicalRange place) {
    if (place.empty()) return 0;
    const Bytes file = placement.module_bytes(0);
    const ElfSections sections = parse_elf_sections(file);
    const std::span<std::byte> memory = placement.bytes(place);
    copy_bytes(memory.data(), file.data() + sections.table_offset, sections.table_size());
    std::uint64_t at = section_start(sections.table_size());
    for (std::uint32_t index = 0; index < sections.count; ++index) {
        const ElfSection section = elf_section(file, index);
        if (section.in_segments || section.size == 0) continue;
        copy_bytes(memory.data() + at, file.data() + section.file_offset, section.size);
        const std::uint64_t header = std::uint64_t{index} * sections.header_size;
        put_address(memory, header + section.address_offset,
                    place.start + at);  // the upper half of 8 bytes is 0
        at = section_start(at + section.size);
    }
    put(bytes, info::sections_count, sections.count);
    put(bytes, info::section_size, sections.header_size);
    put_address(bytes, info::sections, place.start);
    put(bytes, info::names_section, sections.names_index);
    return info::has_sections;
}

L1Start write_block(const LoadRequest& request, const Placement& placement, PhysicalRange place,
                    PhysicalRange sections, std::uint64_t entry) {
    const std::span<std::byte> bytes = placement.bytes(place);
    std::memset(bytes.data(), 0, bytes.size());
    const std::uint64_t base = place.start;

    std::uint32_t flags =
        info::always_valid | write_screen(bytes, base, request) | write_sections(bytes, placement, sections);
    write_memory(bytes, base, request.memory);
    if (request.boot_device) {
        put(bytes, info::boot_device, *request.boot_device);
        flags |= info::has_boot_device;
    }
    if (request.modules.size() > 1) flags |= info::has_modules;
    put(bytes, info::flags, flags);

    std::uint64_t text_at = block::strings;
    put_address(bytes, info::loader_name, append_text(bytes, base, text_at, loader_name(request)));
    put_address(bytes, info::command_line,
                append_text(bytes, base, text_at, request.modules[0].command_line));
    put_address(bytes, info::modules_count, request.modules.size() - 1);
    put_address(bytes, info::modules, base + block::modules);
    for (std::size_t index = 1; index < request.modules.size(); ++index) {
        const std::uint64_t at = block::modules + 16 * (index - 1);
        put_address(bytes, at, placement.module_range(index).start);
        put_address(bytes, at + 4, placement.module_range(index).end);
        put_address(bytes, at + 8, append_text(bytes, base, text_at, request.modules[index].command_line));
    }
    copy_bytes(bytes.data() + block::gdt, descriptors.data(), sizeof descriptors);

    return L1Start{.mode = L1Start::Mode::protected_mode,
                   .rip = entry,
                   .rsp = base + block::stack_top,
                   .rax = loader_magic,
                   .rbx = base,
                   .gdt_base = base + block::gdt,
                   .gdt_limit = sizeof descriptors - 1,
                   .code_selector = code_selector,
                   .data_selector = data_selector};
}

std::expected<PhysicalRange, BootError> claim_block(const LoadRequest& request, Placement& placement) {
    std::uint64_t size = block::strings + loader_name(request).size() + 1;
    for (const Module& module : request.modules) size += module.command_line.size() + 1;
    // Low if possible: there it is out of the way of kernels that use all memory above their image.
    if (auto low = placement.claim_highest(size, x86::page_size_4k, low_memory)) return low;
    return placement.claim_highest(size, x86::page_size_4k, memory_below_4g);
}

// Where the sections go; empty where there is nothing to tell of them.
PhysicalRange claim_sections(const Multiboot1Header& header, Placement& placement) {
    if (header.loads_by_addresses()) return {};
    const Bytes file = placement.module_bytes(0);
    const ElfSections sections = parse_elf_sections(file);
    if (sections.count == 0) return {};
    std::uint64_t size = section_start(sections.table_size());
    for (std::uint32_t index = 0; index < sections.count; ++index) {
        const ElfSection section = elf_section(file, index);
        if (!section.in_segments) size = section_start(size + section.size);
        if (size > most_section_bytes) return {};
    }
    return placement.claim_highest(size, x86::page_size_4k, memory_below_4g).value_or(PhysicalRange{});
}

std::expected<ElfImage, BootError> parse_image(const Multiboot1Header& header, Bytes file) {
    if (header.loads_by_addresses()) return image_by_addresses(header, file);
    return parse_elf(file);
}

}  // namespace

std::expected<ElfImage, BootError> image_by_addresses(const Multiboot1Header& header, Bytes file) {
    if (!header.loads_from_inside_the_file()) {
        return std::unexpected(
            BootError{"the Multiboot header's load address lies before the file", header.load_address});
    }
    const auto piece = formats::multiboot1_piece(header, file);
    if (!piece) {
        return std::unexpected(BootError{"the Multiboot header's addresses do not fit the file; it loads at",
                                         header.load_address});
    }
    ElfImage image{.is_64_bit = false, .entry = header.entry_address, .segments = {}};
    const ElfSegment segment{.file_offset = piece->file_offset,
                             .file_size = piece->file_size,
                             .linear = header.load_address,
                             .memory = {header.load_address, piece->memory_end}};
    static_cast<void>(image.segments.push_back(segment));  // the first always fits
    return image;
}

std::expected<L1Start, BootError> load_multiboot1(const LoadRequest& request, Placement& placement) {
    const Bytes original = placement.module_bytes(0);
    const auto header = find_multiboot1_header(original);
    if (!header) return std::unexpected(BootError{"the L1 image has no Multiboot 1 header"});
    // Modules are always on pages and memory information always given; the video mode is a wish only: a text
    // screen or none satisfies the kernels that set it.
    if (header->has_unknown_demands()) {
        return std::unexpected(BootError{
            "the Multiboot 1 kernel demands what Flatback does not know; its flags are", header->flags});
    }
    const auto image = parse_image(*header, original);
    if (!image) return std::unexpected(image.error());
    const auto entry = image->physical_entry();
    if (!entry)
        return std::unexpected(
            BootError{"the entry of the L1 image lies outside of its segments", image->entry});

    if (const auto claimed = claim_segments(placement, *image); !claimed)
        return std::unexpected(claimed.error());
    const PhysicalRange sections = claim_sections(*header, placement);
    const auto place = claim_block(request, placement);
    if (!place) return std::unexpected(place.error());
    if (const auto moved = placement.evacuate(); !moved) return std::unexpected(moved.error());

    copy_segments(placement, *image, placement.module_bytes(0));
    return write_block(request, placement, *place, sections, *entry);
}

}  // namespace flatback::metal
