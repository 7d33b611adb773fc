// The MTRRs of this processor.
#pragma once

#include "metal/memory/memory_types.hpp"

namespace flatback::metal {

[[nodiscard]] MemoryTypes read_memory_types(unsigned physical_address_width);

}  // namespace flatback::metal
