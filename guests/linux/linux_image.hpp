#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "formats/linux_boot.hpp"
#include "guests/linux/failure.hpp"

// An uncompressed Linux in the memory of an L2, ready for its 64-bit entry (Linux documentation, "The
// Linux/x86 Boot Protocol", "64-bit BOOT PROTOCOL").
namespace flatback::guests {

/// What the VMM finds in the memory, and gives the vCPU.
struct LinuxEntry {
    std::uint64_t instruction_pointer;
    std::uint64_t boot_parameters;
    std::uint64_t cr3;
    std::uint64_t gdt;
    std::uint16_t gdt_limit;
};

inline constexpr std::uint16_t linux_code_selector = formats::linux_boot::code_selector;
inline constexpr std::uint16_t linux_data_selector = formats::linux_boot::data_selector;

/// What is loaded. `kernel` is an ELF64 file, `initramfs` may be empty.
struct LinuxFiles {
    std::span<const std::byte> kernel;
    std::span<const std::byte> initramfs;
    std::string_view command_line;
};

/// Writes kernel, initramfs and what the boot protocol asks for. `memory` is the guest's, from guest-physical
/// 0 on, and zero. The error says what is wrong with which file.
[[nodiscard]] Expected<LinuxEntry> load_linux(std::span<std::byte> memory, const LinuxFiles& files);

}  // namespace flatback::guests
