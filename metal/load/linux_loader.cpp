#include "metal/load/linux_loader.hpp"

#include <array>
#include <bit>
#include <cstring>

#include "formats/linux_boot.hpp"
#include "metal/load/segments.hpp"
#include "screen/framebuffer.hpp"
#include "x86/paging.hpp"

namespace flatback::metal {
namespace {

using namespace formats::linux_boot;

// One claim holds everything L1 finds at its start, reserved in its e820 so that it lives as long as L1
// needs.
// clang-format off
namespace block {
constexpr std::uint64_t boot_params         = 0x0000;
constexpr std::uint64_t command_line        = 0x1000;
constexpr std::uint64_t pml4                = 0x2000;
constexpr std::uint64_t pdpt                = 0x3000;
constexpr std::uint64_t page_directories    = 0x4000;  // four: 4 GB by 2 MB pages
constexpr std::uint64_t gdt                 = 0x8000;
constexpr std::uint64_t rsdp                = 0x8100;
constexpr std::uint64_t rsdp_limit          = 0x8200;
constexpr std::uint64_t size                = 0x9000;  // the stack grows down from here; behind it is UEFI's memory map
}  // namespace block
// clang-format on

using formats::put;

void write_page_tables(std::span<std::byte> bytes, std::uint64_t base) {
    namespace bit = x86::page_entry;
    constexpr std::uint64_t table_bits = bit::present | bit::writable;
    put(bytes, block::pml4, (base + block::pdpt) | table_bits);
    for (std::uint64_t directory = 0; directory < 4; ++directory) {
        put(bytes, block::pdpt + 8 * directory,
            (base + block::page_directories + directory * x86::page_size_4k) | table_bits);
    }
    for (std::uint64_t page = 0; page < 4ULL * x86::entries_per_table; ++page) {
        put(bytes, block::page_directories + 8 * page,
            page * x86::page_size_2m | table_bits | bit::page_size);
    }
}

void write_e820(std::span<std::byte> boot_params, const MemoryMap& memory) {
    std::uint64_t at = offset::e820_table;
    for (const MemoryEntry& entry : memory.entries()) {
        put(boot_params, at, entry.range.start);
        put(boot_params, at + 8, entry.range.size());
        put(boot_params, at + 16, static_cast<std::uint32_t>(entry.kind));
        at += e820_entry_size;
    }
    put(boot_params, offset::e820_count, static_cast<std::uint8_t>(memory.entries().size()));
}

// UEFI's memory map and system table, by which Linux finds what firmware tells: SMBIOS, ACPI, keys.
void write_uefi(std::span<std::byte> block, std::uint64_t base, const UefiMemory& uefi,
                const MemoryMap& memory) {
    if (!uefi.is_known()) return;
    const std::uint64_t size = tell_uefi_memory(uefi, memory, block.subspan(block::size));
    const std::uint64_t map = base + block::size;
    put(block, offset::efi_signature, efi_64_bit);
    put(block, offset::efi_system_table, static_cast<std::uint32_t>(uefi.system_table));
    put(block, offset::efi_system_high, static_cast<std::uint32_t>(uefi.system_table >> 32));
    put(block, offset::efi_descriptor_size, uefi.descriptor_size);
    put(block, offset::efi_descriptor_kind, uefi.descriptor_version);
    put(block, offset::efi_map, static_cast<std::uint32_t>(map));
    put(block, offset::efi_map_high, static_cast<std::uint32_t>(map >> 32));
    put(block, offset::efi_map_size, static_cast<std::uint32_t>(size));
}

// What is put behind L1's own command line.
std::string_view added_words(const LoadRequest& request) {
    return request.uefi.is_known() && !request.uefi_runtime ? efi_without_runtime : std::string_view{};
}

void write_text_screen(std::span<std::byte> boot_params) {
    put(boot_params, offset::screen_video_mode, std::uint8_t{3});
    put(boot_params, offset::screen_columns, std::uint8_t{80});
    put(boot_params, offset::screen_lines, std::uint8_t{25});
    put(boot_params, offset::screen_is_vga, std::uint8_t{1});
    put(boot_params, offset::screen_points, std::uint16_t{16});
}

// A framebuffer, by which Linux has a console where there is neither VGA text nor a serial port.
void write_framebuffer(std::span<std::byte> boot_params, const LoadRequest& request) {
    constexpr std::uint64_t most = 0xFFFF;
    const auto screen = screen::parse_framebuffer(request.framebuffer, screen::MultibootVersion::two);
    if (!screen || screen->kind != screen::ScreenKind::pixels || screen->pitch > most) return;
    constexpr std::uint64_t vesa_unit = 64 << 10;
    put(boot_params, offset::screen_is_vga, request.from_uefi ? screen_efi : screen_vesa);
    put(boot_params, offset::framebuffer_width, static_cast<std::uint16_t>(screen->width));
    put(boot_params, offset::framebuffer_height, static_cast<std::uint16_t>(screen->height));
    put(boot_params, offset::framebuffer_depth, static_cast<std::uint16_t>(screen->pixel_size * 8));
    put(boot_params, offset::framebuffer_pitch, static_cast<std::uint16_t>(screen->pitch));
    put(boot_params, offset::framebuffer_base, static_cast<std::uint32_t>(screen->address));
    put(boot_params, offset::framebuffer_high, static_cast<std::uint32_t>(screen->address >> 32));
    put(boot_params, offset::framebuffer_size,
        static_cast<std::uint32_t>(request.from_uefi ? screen->size()
                                                     : (screen->size() + vesa_unit - 1) / vesa_unit));
    if (screen->address >> 32 != 0) put(boot_params, offset::screen_capabilities, capability_64_bit_base);
    const std::array<std::uint8_t, 6> colours{screen->red_bits, screen->red_at,    screen->green_bits,
                                              screen->green_at, screen->blue_bits, screen->blue_at};
    for (std::size_t i = 0; i < colours.size(); ++i)
        put(boot_params, offset::framebuffer_colours + i, colours[i]);
}

// The header that a bzImage brings, or the one that an ELF file lacks.
void write_setup_header(std::span<std::byte> boot_params, Bytes from_image) {
    if (!from_image.empty()) {
        copy_bytes(boot_params.data() + offset::setup_header, from_image.data(), from_image.size());
    } else {
        put(boot_params, offset::boot_flag, boot_flag_value);
        put(boot_params, offset::magic, header_magic);
        put(boot_params, offset::version, with_64_bit_entry);
        put(boot_params, offset::load_flags, loaded_high);
        put(boot_params, offset::alignment, static_cast<std::uint32_t>(x86::page_size_2m));
        put(boot_params, offset::command_line_size, command_line_limit);
    }
    put(boot_params, offset::loader_type, undefined_loader);
}

// What both kinds of image share. `entry`: physical.
std::expected<L1Start, BootError> write_boot_block(const LoadRequest& request, const Placement& placement,
                                                   PhysicalRange place, Bytes setup_header,
                                                   std::uint64_t entry) {
    const std::span<std::byte> bytes = placement.bytes(place);
    std::memset(bytes.data(), 0, bytes.size());
    const std::span<std::byte> boot_params = bytes.first(block::command_line);
    const std::uint64_t base = place.start;

    write_setup_header(boot_params, setup_header);
    MemoryMap memory = request.memory;
    if (!memory.add(place, MemoryKind::reserved)) {
        return std::unexpected(BootError{"the memory map has too many ranges", MemoryMap::capacity});
    }
    write_e820(boot_params, memory);
    write_uefi(bytes, base, request.uefi, memory);
    if (request.has_text_screen) write_text_screen(boot_params);
    write_framebuffer(boot_params, request);
    if (request.modules.size() > 1) {
        const PhysicalRange ramdisk = placement.module_range(1);
        put(boot_params, offset::ramdisk, static_cast<std::uint32_t>(ramdisk.start));
        put(boot_params, offset::ramdisk_size, static_cast<std::uint32_t>(ramdisk.size()));
    }
    const std::string_view command_line = request.modules[0].command_line;
    const std::string_view added = added_words(request);
    copy_bytes(bytes.data() + block::command_line, command_line.data(), command_line.size());
    copy_bytes(bytes.data() + block::command_line + command_line.size(), added.data(), added.size());
    put(boot_params, offset::command_line, static_cast<std::uint32_t>(base + block::command_line));
    if (!request.rsdp.empty() && request.rsdp.size() <= block::rsdp_limit - block::rsdp) {
        copy_bytes(bytes.data() + block::rsdp, request.rsdp.data(), request.rsdp.size());
        put(boot_params, offset::acpi_rsdp, base + block::rsdp);
    }
    write_page_tables(bytes, base);
    copy_bytes(bytes.data() + block::gdt, descriptors.data(), sizeof descriptors);

    return L1Start{.mode = L1Start::Mode::long_mode,
                   .rip = entry,
                   .rsp = base + block::size,
                   .rsi = base + block::boot_params,
                   .cr3 = base + block::pml4,
                   .gdt_base = base + block::gdt,
                   .gdt_limit = sizeof descriptors - 1,
                   .code_selector = code_selector,
                   .data_selector = data_selector};
}

std::expected<PhysicalRange, BootError> claim_boot_block(const LoadRequest& request, Placement& placement) {
    const std::uint64_t uefi_map = request.uefi.is_known() ? request.uefi.most_bytes(request.memory) : 0;
    const std::uint64_t room = uefi_map == 0 ? 0 : uefi_map + 2 * std::uint64_t{request.uefi.descriptor_size};
    constexpr std::uint64_t mask = x86::page_size_4k - 1;
    const std::uint64_t size = (block::size + room + mask) & ~mask;
    if (auto low = placement.claim_highest(size, x86::page_size_4k, low_memory)) return low;
    return placement.claim_highest(size, x86::page_size_4k, memory_below_4g);
}

std::expected<void, BootError> check_command_line(const LoadRequest& request, std::uint32_t limit) {
    const auto left =
        static_cast<std::uint32_t>(limit - std::min<std::uint64_t>(limit, added_words(request).size()));
    if (request.modules[0].command_line.size() > left) {
        return std::unexpected(BootError{
            "the command line of the Linux L1 is too long; it may have this many characters:", left});
    }
    return {};
}

std::expected<PhysicalRange, BootError> claim_bzimage(Placement& placement, const BzImage& image) {
    const PhysicalRange preferred{image.preferred_address, image.preferred_address + image.memory_size};
    const auto claimed = placement.claim(preferred);
    if (claimed) return preferred;
    if (!image.relocatable) return std::unexpected(claimed.error());
    return placement.claim_highest(image.memory_size, image.alignment, memory_below_4g);
}

std::expected<L1Start, BootError> load_bzimage(const LoadRequest& request, Placement& placement) {
    auto image = parse_bzimage(placement.module_bytes(0));
    if (!image) return std::unexpected(image.error());
    if (const auto fits = check_command_line(request, image->most_command_line); !fits) {
        return std::unexpected(fits.error());
    }
    const auto kernel = claim_bzimage(placement, *image);
    if (!kernel) return std::unexpected(kernel.error());
    const auto place = claim_boot_block(request, placement);
    if (!place) return std::unexpected(place.error());
    if (const auto moved = placement.evacuate(); !moved) return std::unexpected(moved.error());

    const Bytes file = placement.module_bytes(0);  // it may have moved
    const std::span<std::byte> memory = placement.bytes(*kernel);
    copy_bytes(memory.data(), file.data() + image->payload_offset, image->payload_size);
    const Bytes header = file.subspan(offset::setup_header, image->setup_header.size());
    auto start = write_boot_block(request, placement, *place, header, kernel->start + entry_offset_64_bit);
    if (start) {
        put(placement.bytes(*place), offset::code_start, static_cast<std::uint32_t>(kernel->start));
    }
    return start;
}

std::expected<L1Start, BootError> load_vmlinux(const LoadRequest& request, Placement& placement) {
    const auto image = parse_elf(placement.module_bytes(0));
    if (!image) return std::unexpected(image.error());
    const auto entry = image->physical_entry();
    if (!entry)
        return std::unexpected(
            BootError{"the entry of the ELF image lies outside of its segments", image->entry});
    if (const auto fits = check_command_line(request, command_line_limit); !fits) {
        return std::unexpected(fits.error());
    }
    if (const auto claimed = claim_segments(placement, *image); !claimed)
        return std::unexpected(claimed.error());
    const auto place = claim_boot_block(request, placement);
    if (!place) return std::unexpected(place.error());
    if (const auto moved = placement.evacuate(); !moved) return std::unexpected(moved.error());

    copy_segments(placement, *image, placement.module_bytes(0));
    return write_boot_block(request, placement, *place, {}, *entry);
}

}  // namespace

std::expected<BzImage, BootError> parse_bzimage(Bytes file) {
    if (!is_bzimage(file) || file.size() < offset::header_limit) {
        return std::unexpected(BootError{"the L1 image is not a bzImage"});
    }
    const std::uint16_t version = *read<std::uint16_t>(file, offset::version);
    if (version < with_64_bit_entry) {
        return std::unexpected(BootError{
            "the bzImage speaks a boot protocol older than 2.12; use Linux 3.8 or later. It says", version});
    }
    if ((*read<std::uint16_t>(file, offset::extended_load_flags) & entry_64_bit) == 0) {
        return std::unexpected(BootError{"the bzImage has no 64-bit entry; use a 64-bit Linux kernel"});
    }
    const std::uint64_t payload_offset = kernel_offset(file);
    const std::uint64_t header_end = offset::magic + *read<std::uint8_t>(file, offset::jump_distance);
    const std::uint64_t alignment = *read<std::uint32_t>(file, offset::alignment);
    if (payload_offset + entry_offset_64_bit >= file.size() || header_end > offset::header_limit ||
        header_end < offset::memory_size + 4) {
        return std::unexpected(
            BootError{"the bzImage is cut short or its header is corrupt; its size is", file.size()});
    }
    if (!std::has_single_bit(alignment) || alignment < x86::page_size_4k) {
        return std::unexpected(
            BootError{"the bzImage's header is corrupt: it asks for an alignment of", alignment});
    }
    const std::uint64_t preferred = *read<std::uint64_t>(file, offset::preferred_address);
    if (preferred % alignment != 0 || preferred >= memory_below_4g.end) {
        return std::unexpected(
            BootError{"the bzImage's header is corrupt: it asks to be loaded at", preferred});
    }
    const std::uint64_t payload_size = file.size() - payload_offset;
    const std::uint64_t declared_size = *read<std::uint32_t>(file, offset::payload_paragraphs) * paragraph;
    // The unit is rounded up to: images end up to 15 bytes before what they declare.
    if (declared_size >= payload_size + paragraph) {
        return std::unexpected(
            BootError{"the bzImage is cut short; the bytes missing are", declared_size - payload_size});
    }
    const std::uint32_t most_command_line = *read<std::uint32_t>(file, offset::command_line_size);
    return BzImage{
        .payload_offset = payload_offset,
        .payload_size = payload_size,
        .setup_header = file.subspan(offset::setup_header, header_end - offset::setup_header),
        .preferred_address = preferred,
        .alignment = alignment,
        .memory_size = std::max<std::uint64_t>(*read<std::uint32_t>(file, offset::memory_size), payload_size),
        .most_command_line = std::min(most_command_line, command_line_limit),
        .relocatable = *read<std::uint8_t>(file, offset::relocatable) != 0};
}

std::expected<L1Start, BootError> load_linux(const LoadRequest& request, Placement& placement) {
    if (request.modules.size() > 2) {
        return std::unexpected(
            BootError{"a Linux L1 takes one module, its initramfs; there are", request.modules.size() - 1});
    }
    return is_bzimage(placement.module_bytes(0)) ? load_bzimage(request, placement)
                                                 : load_vmlinux(request, placement);
}

}  // namespace flatback::metal
