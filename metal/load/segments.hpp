// Segments of an image on their way into memory, shared by the loaders.
#pragma once

#include <expected>

#include "metal/ground/boot_error.hpp"
#include "metal/load/elf.hpp"
#include "metal/load/placement.hpp"

namespace flatback::metal {

// Claims the memory of every segment.
[[nodiscard]] std::expected<void, BootError> claim_segments(Placement& placement, const ElfImage& image);
// Copies what is in the file, zeroes the rest. After Placement::evacuate(); `file` is the image at its
// present place.
void copy_segments(const Placement& placement, const ElfImage& image, Bytes file);

}  // namespace flatback::metal
