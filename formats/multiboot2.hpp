// The header of a Multiboot2 kernel (specification 2.0, section 3.1): its demands, for a loader of ELF files.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "formats/bytes.hpp"

namespace flatback::formats {

struct Multiboot2Header {
    // What the kernel demands and a loader must have, or not boot it; 0: nothing that is not known here.
    std::uint16_t unknown_tag = 0;
    bool loads_by_addresses = false;  // not by ELF segments
    std::optional<std::uint32_t> entry;
    // The kernel may be put elsewhere than where it was linked: in these bounds, by a multiple of this.
    bool relocatable = false;
    std::uint32_t least_address = 0;
    std::uint32_t most_address = 0;  // of its last byte
    std::uint32_t alignment = 1;     // a power of two

    static constexpr std::uint32_t magic = 0xE85250D6;
    static constexpr std::uint64_t search_limit = 32768;
};

namespace multiboot2_tag {
inline constexpr std::uint16_t end = 0, information = 1, addresses = 2, entry = 3, console = 4,
                               framebuffer = 5, module_alignment = 6, efi_entry_32 = 8, efi_entry_64 = 9,
                               relocatable = 10;
}

// In the first 32768 bytes, on a multiple of 8, for protected mode of i386, with a checksum that fits and
// tags that stay inside.
[[nodiscard]] inline std::optional<Multiboot2Header> find_multiboot2_header(Bytes file) {
    constexpr std::uint16_t optional_flag = 1;
    const std::uint64_t limit = std::min<std::uint64_t>(file.size(), Multiboot2Header::search_limit);
    for (std::uint64_t at = 0; at + 16 <= limit; at += 8) {
        if (read<std::uint32_t>(file, at) != Multiboot2Header::magic) continue;
        const std::uint32_t architecture = *read<std::uint32_t>(file, at + 4);
        const std::uint32_t length = *read<std::uint32_t>(file, at + 8);
        const std::uint32_t checksum = *read<std::uint32_t>(file, at + 12);
        if (architecture != 0 || Multiboot2Header::magic + architecture + length + checksum != 0) continue;
        const auto header = slice(file, at, length);
        if (!header) continue;
        Multiboot2Header found;
        for (std::uint64_t tag = 16;;) {
            const auto type = read<std::uint16_t>(*header, tag);
            const auto flags = read<std::uint16_t>(*header, tag + 2);
            const auto size = read<std::uint32_t>(*header, tag + 4);
            if (!type || !flags || !size || *size < 8 || !slice(*header, tag, *size)) return std::nullopt;
            if (*type == multiboot2_tag::end) return found;
            const auto word = [&](std::uint64_t offset) {
                return offset + 4 <= *size ? *read<std::uint32_t>(*header, tag + offset) : 0;
            };
            switch (*type) {
                case multiboot2_tag::addresses:
                    found.loads_by_addresses = true;
                    break;
                case multiboot2_tag::entry:
                    found.entry = word(8);
                    break;
                case multiboot2_tag::relocatable:
                    found.least_address = word(8);
                    found.most_address = word(12);
                    found.alignment = word(16);
                    found.relocatable =
                        found.alignment != 0 && (found.alignment & (found.alignment - 1)) == 0;
                    break;
                // What a loader gives in any case, and what only UEFI's loaders use.
                case multiboot2_tag::information:
                case multiboot2_tag::console:
                case multiboot2_tag::framebuffer:
                case multiboot2_tag::module_alignment:
                case multiboot2_tag::efi_entry_32:
                case multiboot2_tag::efi_entry_64:
                    break;
                default:
                    if ((*flags & optional_flag) == 0) found.unknown_tag = *type;
            }
            tag += (std::uint64_t{*size} + 7) & ~std::uint64_t{7};
        }
    }
    return std::nullopt;
}

}  // namespace flatback::formats
