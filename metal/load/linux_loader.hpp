// A Linux kernel as L1, by the x86 boot protocol's 64-bit entry (Linux documentation, "The Linux/x86 Boot
// Protocol", "64-bit BOOT PROTOCOL"): a bzImage of version 2.12 or later, or the ELF64 vmlinux inside of it.
#pragma once

#include <cstdint>
#include <expected>

#include "metal/ground/boot_error.hpp"
#include "metal/ground/bytes.hpp"
#include "metal/load/l1_start.hpp"
#include "metal/load/load_request.hpp"
#include "metal/load/placement.hpp"

namespace flatback::metal {

// What a bzImage says of itself, checked.
struct BzImage {
    std::uint64_t payload_offset = 0;  // of the protected-mode kernel in the file
    std::uint64_t payload_size = 0;
    Bytes setup_header;  // from offset 0x1F1 of the file on
    std::uint64_t preferred_address = 0;
    std::uint64_t alignment = 0;    // a power of two
    std::uint64_t memory_size = 0;  // what the kernel needs from its load address on; at least payload_size
    std::uint32_t most_command_line = 0;  // characters, without the final NUL
    bool relocatable = false;
};

[[nodiscard]] std::expected<BzImage, BootError> parse_bzimage(Bytes file);

// request.modules[0] is a bzImage or an ELF64 file; [1], if there, is the initramfs; more are refused.
[[nodiscard]] std::expected<L1Start, BootError> load_linux(const LoadRequest& request, Placement& placement);

}  // namespace flatback::metal
