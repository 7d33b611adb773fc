#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "guests/linux/payload.hpp"

namespace flatback::guests {

/// Writes the whole guest-physical memory of an L2 (see guest_layout.hpp): both page-table trees, the
/// value pages, the touch region's patterns, and the payload's code.
/// `memory` is guest_memory_size bytes, zeroed. Returns false where the code does not fit.
[[nodiscard]] bool build_guest_image(std::span<std::byte> memory, const Payload& which);

/// Reads or writes the quadword at a guest-physical address below guest_memory_size - 7.
[[nodiscard]] std::uint64_t read_guest(std::span<const std::byte> memory, std::uint64_t guest_physical);
void write_guest(std::span<std::byte> memory, std::uint64_t guest_physical, std::uint64_t value);

}  // namespace flatback::guests
