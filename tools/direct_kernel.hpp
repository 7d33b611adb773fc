// A Linux kernel that boots by itself, without Flatback's L0, and without unpacking itself for a minute
// first.
#pragma once

#include <span>

#include "tools/error.hpp"
#include "tools/files.hpp"

namespace flatback::tools {

// A bzImage that any boot loader takes, and whose kernel is not compressed: the setup part of `bzimage`, then
// `entry` (guests/peer/entry.S, assembled) and the segments of `kernel`, each at its place.
// Error: input_file where one of them is not what it should be.
[[nodiscard]] Result<Bytes> uncompressed_bzimage(std::span<const std::byte> bzimage,
                                                 std::span<const std::byte> kernel,
                                                 std::span<const std::byte> entry);

}  // namespace flatback::tools
