// The header of a Multiboot 1 kernel (specification 0.6.96, section 3.1).
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "formats/bytes.hpp"

namespace flatback::formats {

struct Multiboot1Header {
    std::uint64_t offset = 0;  // in the file
    std::uint32_t flags = 0;
    // Of the address fields, valid with flag 16.
    std::uint32_t header_address = 0;
    std::uint32_t load_address = 0;
    std::uint32_t load_end_address = 0;
    std::uint32_t bss_end_address = 0;
    std::uint32_t entry_address = 0;

    static constexpr std::uint32_t magic = 0x1BADB002;
    static constexpr std::uint64_t search_limit = 8192;
    static constexpr std::uint32_t has_addresses = 1u << 16;
    // Bits 15:0 are demands: modules on pages, memory information, a video mode. Others are not defined, and
    // mean that a loader that does not know them must not boot the kernel (section 3.1.2).
    static constexpr std::uint32_t all_demands = 0xFFFF;
    static constexpr std::uint32_t defined_demands = 0x7;

    [[nodiscard]] bool has_unknown_demands() const { return (flags & all_demands & ~defined_demands) != 0; }
    [[nodiscard]] bool loads_by_addresses() const { return (flags & has_addresses) != 0; }

    // The header's place in the file says where the load address is in it.
    [[nodiscard]] bool loads_from_inside_the_file() const {
        return header_address >= load_address && header_address - load_address <= offset;
    }

    friend bool operator==(const Multiboot1Header&, const Multiboot1Header&) = default;
};

// In the first 8192 bytes, on a multiple of 4, with a checksum that fits.
[[nodiscard]] inline std::optional<Multiboot1Header> find_multiboot1_header(Bytes file) {
    const std::uint64_t end = std::min<std::uint64_t>(file.size(), Multiboot1Header::search_limit);
    for (std::uint64_t at = 0; at + 12 <= end; at += 4) {
        if (read<std::uint32_t>(file, at) != Multiboot1Header::magic) continue;
        const std::uint32_t flags = *read<std::uint32_t>(file, at + 4);
        const std::uint32_t checksum = *read<std::uint32_t>(file, at + 8);
        if (Multiboot1Header::magic + flags + checksum != 0) continue;
        Multiboot1Header header{.offset = at, .flags = flags};
        if (header.loads_by_addresses()) {
            if (!slice(file, at, 32)) continue;
            header.header_address = *read<std::uint32_t>(file, at + 12);
            header.load_address = *read<std::uint32_t>(file, at + 16);
            header.load_end_address = *read<std::uint32_t>(file, at + 20);
            header.bss_end_address = *read<std::uint32_t>(file, at + 24);
            header.entry_address = *read<std::uint32_t>(file, at + 28);
        }
        return header;
    }
    return std::nullopt;
}

// The piece of the file that the header's address fields name, and the memory that it becomes.
struct Multiboot1Piece {
    std::uint64_t file_offset = 0;
    std::uint64_t file_size = 0;   // lies inside the file
    std::uint64_t memory_end = 0;  // begins at load_address; not before what the file fills

    friend bool operator==(const Multiboot1Piece&, const Multiboot1Piece&) = default;
};

// Absent if the addresses do not fit the file or each other.
[[nodiscard]] inline std::optional<Multiboot1Piece> multiboot1_piece(const Multiboot1Header& header,
                                                                     Bytes file) {
    if (!header.loads_from_inside_the_file()) return std::nullopt;
    const std::uint64_t file_offset = header.offset - (header.header_address - header.load_address);
    // 0: to the end of the file; 0: no bss (section 3.1.3).
    const std::uint64_t load_end = header.load_end_address != 0
                                       ? std::uint64_t{header.load_end_address}
                                       : header.load_address + (file.size() - file_offset);
    const std::uint64_t memory_end =
        header.bss_end_address != 0 ? std::uint64_t{header.bss_end_address} : load_end;
    if (load_end <= header.load_address || memory_end < load_end ||
        !slice(file, file_offset, load_end - header.load_address))
        return std::nullopt;
    return Multiboot1Piece{file_offset, load_end - header.load_address, memory_end};
}

}  // namespace flatback::formats
