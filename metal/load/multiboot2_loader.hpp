// An ELF kernel of the Multiboot2 specification as L1: another hypervisor like this one, for example.
#pragma once

#include <expected>

#include "formats/multiboot2.hpp"
#include "metal/ground/boot_error.hpp"
#include "metal/load/l1_start.hpp"
#include "metal/load/load_request.hpp"
#include "metal/load/placement.hpp"

namespace flatback::metal {

// request.modules[0] has a Multiboot2 header; the rest become its modules, strings and order kept. A kernel
// that says that it can be relocated is, where its own place is not free.
[[nodiscard]] std::expected<L1Start, BootError> load_multiboot2(const LoadRequest& request,
                                                                Placement& placement);

}  // namespace flatback::metal
