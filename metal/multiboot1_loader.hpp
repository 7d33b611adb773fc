// A kernel of the Multiboot 1 specification (0.6.96) as L1: ELF, or any file whose header gives its load
// addresses.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>

#include "metal/boot_error.hpp"
#include "metal/boot_result.hpp"
#include "metal/bytes.hpp"
#include "metal/elf.hpp"
#include "metal/loader.hpp"
#include "metal/placement.hpp"

namespace flatback::metal {

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
    static constexpr std::uint32_t has_addresses = 1u << 16;

    friend bool operator==(const Multiboot1Header&, const Multiboot1Header&) = default;
};

// In the first 8192 bytes, on a multiple of 4, with a checksum that fits.
[[nodiscard]] std::optional<Multiboot1Header> find_multiboot1_header(Bytes file);
// The image's one segment by its header's address fields.
[[nodiscard]] std::expected<ElfImage, BootError> image_by_addresses(const Multiboot1Header& header,
                                                                    Bytes file);

// request.modules[0] has a Multiboot 1 header; the rest become its modules, strings and order kept.
[[nodiscard]] std::expected<L1Start, BootError> load_multiboot1(const LoadRequest& request,
                                                                Placement& placement);

}  // namespace flatback::metal
