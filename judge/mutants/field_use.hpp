#pragma once

#include "machine/program/program.hpp"

namespace flatback::machine {

/// Two VMCSs of L1's by turns, and in both the same fields at every exit, so that L0 learns them. L2 changes
/// some of them, L1 writes back what was there before, and clears a VMCS in between.
[[nodiscard]] const Program& program_of_fields_in_use();

}  // namespace flatback::machine
