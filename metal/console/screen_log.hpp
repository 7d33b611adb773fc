// L0's log on the machine's screen, beside COM1: many PCs have no serial port.
#pragma once

#include <cstdint>

#include "metal/ground/bytes.hpp"

namespace flatback::metal {

// From here on the log goes there too. `framebuffer`: as Multiboot2Information has it. Nothing happens where
// there is no screen, or one beyond what L0 maps now.
void show_log_on_screen(Bytes framebuffer);

// The direct map is elsewhere now (metal/memory/relocate.hpp).
void follow_direct_map();

}  // namespace flatback::metal
