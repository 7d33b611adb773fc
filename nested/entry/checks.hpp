// The checks that VM entry makes on L1's VMCS (SDM 3C 27.2 and 27.3.1), as pure functions of the VMCS and of
// what L1 was promised. The first broken rule is named; entry_checks_table.hpp tells its section. Each
// section of the SDM is one function, so that a caller can run those whose fields have changed.
#pragma once

#include "checks_controls.hpp"  // IWYU pragma: export
#include "checks_guest.hpp"     // IWYU pragma: export
#include "checks_host.hpp"      // IWYU pragma: export
#include "checks_table.hpp"     // IWYU pragma: export
