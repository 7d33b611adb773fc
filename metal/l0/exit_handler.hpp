// What metal/l0/entry.S calls at each VM exit.
#pragma once

#include "metal/l0/cpu.hpp"

namespace flatback::metal {

extern "C" {

nested::Entry handle_exit(ExitFrame& frame);
// What stands there now: handle_exit, or while the trace records a function that calls it.
extern nested::Entry (*exit_handler)(ExitFrame&);

}  // extern "C"

}  // namespace flatback::metal
