// A kernel of the Multiboot 1 specification (0.6.96) as L1: ELF, or any file whose header gives its load
// addresses.
#pragma once

#include <cstdint>
#include <expected>

#include "formats/multiboot1.hpp"
#include "metal/ground/boot_error.hpp"
#include "metal/ground/bytes.hpp"
#include "metal/load/elf.hpp"
#include "metal/load/l1_start.hpp"
#include "metal/load/load_request.hpp"
#include "metal/load/placement.hpp"

namespace flatback::metal {

using formats::find_multiboot1_header;
using formats::Multiboot1Header;

// The image's one segment by its header's address fields.
[[nodiscard]] std::expected<ElfImage, BootError> image_by_addresses(const Multiboot1Header& header,
                                                                    Bytes file);

// request.modules[0] has a Multiboot 1 header; the rest become its modules, strings and order kept.
[[nodiscard]] std::expected<L1Start, BootError> load_multiboot1(const LoadRequest& request,
                                                                Placement& placement);

}  // namespace flatback::metal
