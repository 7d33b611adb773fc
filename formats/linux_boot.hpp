// The Linux/x86 boot protocol (Linux documentation, "The Linux/x86 Boot Protocol"): the setup header of a
// bzImage, and boot_params, the "zero page" that a kernel finds at its 64-bit entry.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "formats/bytes.hpp"

namespace flatback::formats::linux_boot {

// Offsets in a bzImage's first sectors and, equally, in boot_params.
// clang-format off
namespace offset {
inline constexpr std::uint64_t screen_video_mode   = 0x006;
inline constexpr std::uint64_t screen_columns      = 0x007;
inline constexpr std::uint64_t screen_lines        = 0x00E;
inline constexpr std::uint64_t screen_is_vga       = 0x00F;
inline constexpr std::uint64_t screen_points       = 0x010;
inline constexpr std::uint64_t framebuffer_width   = 0x012;
inline constexpr std::uint64_t framebuffer_height  = 0x014;
inline constexpr std::uint64_t framebuffer_depth   = 0x016;
inline constexpr std::uint64_t framebuffer_base    = 0x018;  // bits 31:0
inline constexpr std::uint64_t framebuffer_size    = 0x01C;  // bytes; of VESA's 64 KB
inline constexpr std::uint64_t framebuffer_pitch   = 0x024;
inline constexpr std::uint64_t framebuffer_colours = 0x026;  // bits and lowest bit of red, green and blue
inline constexpr std::uint64_t screen_capabilities = 0x036;
inline constexpr std::uint64_t framebuffer_high    = 0x03A;  // bits 63:32
inline constexpr std::uint64_t acpi_rsdp           = 0x070;
inline constexpr std::uint64_t efi_signature       = 0x1C0;  // efi_info: "EL64"
inline constexpr std::uint64_t efi_system_table    = 0x1C4;  // bits 31:0
inline constexpr std::uint64_t efi_descriptor_size = 0x1C8;
inline constexpr std::uint64_t efi_descriptor_kind = 0x1CC;  // the descriptors' version
inline constexpr std::uint64_t efi_map             = 0x1D0;  // bits 31:0
inline constexpr std::uint64_t efi_map_size        = 0x1D4;
inline constexpr std::uint64_t efi_system_high     = 0x1D8;  // bits 63:32
inline constexpr std::uint64_t efi_map_high        = 0x1DC;
inline constexpr std::uint64_t e820_count          = 0x1E8;
inline constexpr std::uint64_t setup_header        = 0x1F1;
inline constexpr std::uint64_t setup_sectors       = 0x1F1;
inline constexpr std::uint64_t payload_paragraphs  = 0x1F4;  // the protected-mode kernel, in 16 bytes
inline constexpr std::uint64_t boot_flag           = 0x1FE;
inline constexpr std::uint64_t jump_distance       = 0x201;  // the header ends this far behind 0x202
inline constexpr std::uint64_t magic               = 0x202;
inline constexpr std::uint64_t version             = 0x206;
inline constexpr std::uint64_t release_text        = 0x20E;  // where the kernel's release stands, from 200H on; 0: nowhere
inline constexpr std::uint64_t loader_type         = 0x210;
inline constexpr std::uint64_t load_flags          = 0x211;
inline constexpr std::uint64_t code_start          = 0x214;
inline constexpr std::uint64_t ramdisk             = 0x218;
inline constexpr std::uint64_t ramdisk_size        = 0x21C;
inline constexpr std::uint64_t command_line        = 0x228;
inline constexpr std::uint64_t alignment           = 0x230;
inline constexpr std::uint64_t relocatable         = 0x234;
inline constexpr std::uint64_t extended_load_flags = 0x236;
inline constexpr std::uint64_t command_line_size   = 0x238;
inline constexpr std::uint64_t compressed_offset   = 0x248;  // the packed ELF file, in the protected-mode kernel
inline constexpr std::uint64_t compressed_size     = 0x24C;
inline constexpr std::uint64_t setup_data          = 0x250;  // a list of what a loader adds
inline constexpr std::uint64_t preferred_address   = 0x258;
inline constexpr std::uint64_t memory_size         = 0x260;
inline constexpr std::uint64_t header_limit        = 0x290;  // the room for the header in boot_params
inline constexpr std::uint64_t e820_table          = 0x2D0;
}  // namespace offset
// clang-format on

// screen_is_vga: which kind of screen.
inline constexpr std::uint8_t screen_vesa = 0x23;
inline constexpr std::uint8_t screen_efi = 0x70;
inline constexpr std::uint32_t capability_64_bit_base = 1 << 1;

inline constexpr std::uint32_t efi_64_bit = 0x34364C45;  // "EL64"
// The word of a command line that keeps a kernel from calling UEFI's runtime services.
inline constexpr std::string_view efi_without_runtime = " efi=noruntime";
inline constexpr std::uint32_t header_magic = 0x53726448;  // "HdrS"
inline constexpr std::uint16_t boot_flag_value = 0xAA55;
// Versions, 8 bits before the point and 8 behind it.
inline constexpr std::uint16_t with_compressed_offset = 0x0208;
inline constexpr std::uint16_t with_64_bit_entry = 0x020C;  // Linux 3.8
inline constexpr std::uint16_t entry_64_bit = 1 << 0;       // XLF_KERNEL_64
inline constexpr std::uint8_t loaded_high = 1 << 0;
inline constexpr std::uint8_t undefined_loader = 0xFF;
inline constexpr std::uint64_t entry_offset_64_bit = 0x200;
inline constexpr std::uint64_t release_text_base = 0x200;
inline constexpr std::uint64_t paragraph = 16;
inline constexpr std::uint32_t command_line_limit = 2047;  // COMMAND_LINE_SIZE of x86, less the NUL
inline constexpr std::uint64_t e820_entry_size = 20;

// The descriptors that the 64-bit entry asks for: __BOOT_CS at 10H, __BOOT_DS at 18H.
inline constexpr std::array<std::uint64_t, 4> descriptors = {0, 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF};
inline constexpr std::uint16_t code_selector = 0x10;
inline constexpr std::uint16_t data_selector = 0x18;

[[nodiscard]] inline bool is_bzimage(Bytes file) {
    return read<std::uint16_t>(file, offset::boot_flag) == boot_flag_value &&
           read<std::uint32_t>(file, offset::magic) == header_magic;
}

// Where the protected-mode kernel begins in a bzImage. 0 sectors mean 4, for the oldest of images.
[[nodiscard]] inline std::uint64_t kernel_offset(Bytes bzimage) {
    constexpr std::uint64_t sector = 512;
    const std::uint64_t sectors = *read<std::uint8_t>(bzimage, offset::setup_sectors);
    return ((sectors == 0 ? 4 : sectors) + 1) * sector;
}

}  // namespace flatback::formats::linux_boot
