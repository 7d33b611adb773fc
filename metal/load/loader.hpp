// L1 into memory, ready to start: Linux by its 64-bit boot protocol, or a Multiboot 1 kernel.
#pragma once

#include <expected>

#include "metal/ground/boot_error.hpp"
#include "metal/load/l1_start.hpp"
#include "metal/load/load_request.hpp"

namespace flatback::metal {

// Every image is hostile: whatever does not fit, overlaps, or lies outside of usable memory is refused.
// Memory is only written once the whole plan is known to be sound, except for modules that are moved out of
// the way.
[[nodiscard]] std::expected<L1Start, BootError> load_l1(const LoadRequest& request);

}  // namespace flatback::metal
