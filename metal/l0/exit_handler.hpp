// What metal/l0/entry.S calls at each VM exit.
#pragma once

#include "metal/l0/cpu.hpp"

namespace flatback::metal {

// By way of ExitFrame::handler, or from what stands there instead.
extern "C" nested::Entry handle_exit(ExitFrame& frame);

}  // namespace flatback::metal
