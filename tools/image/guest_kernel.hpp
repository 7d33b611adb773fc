// Which kind of kernel a file is, and the uncompressed kernel inside a Linux bzImage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "tools/ground/error.hpp"
#include "tools/ground/files.hpp"

namespace flatback::tools {

enum class KernelKind : std::uint8_t {
    linux_bzimage,  // setup header "HdrS", boot protocol 2.06 or later, with a 64-bit entry
    linux_elf64,    // the uncompressed kernel inside a bzImage
    multiboot1,     // a Multiboot 1 header in the first 8 KB
};

// What the bytes of a file are, or nothing where they are no kernel that can be booted as L1.
[[nodiscard]] std::optional<KernelKind> kernel_kind(std::span<const std::byte> file);

// The compressed payload of a bzImage (Linux boot protocol, payload_offset and payload_length).
// Error: input_file where the header is not a bzImage's or points outside the file.
[[nodiscard]] Result<std::span<const std::byte>> bzimage_payload(std::span<const std::byte> file);

// The ELF64 kernel inside a bzImage. Error: input_file where the payload is no compressed ELF64 file.
[[nodiscard]] Result<Bytes> uncompressed_kernel(std::span<const std::byte> bzimage);

// The same program with only what a loader needs: program headers of type LOAD, their contents without the
// zeros at the end, which a loader writes anyway, and the notes inside them. A boot loader that copies byte
// by byte needs half the time. Error: input_file where the file is not a good ELF64 file.
[[nodiscard]] Result<Bytes> compact_elf64(std::span<const std::byte> elf);

}  // namespace flatback::tools
