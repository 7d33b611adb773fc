// ACPI tables for a machine whose sleep registers, and configuration space, are in memory: such a PC is
// emulated nowhere, so that GRUB gives these to L0 in place of the firmware's.
#pragma once

#include <string>
#include <vector>

namespace flatback::tools {

// FADT, DSDT and MCFG, as files for GRUB's `acpi`. PM1a control is the emulated chipset's port; PM1b control
// is at 3000804H and configuration space from 4000000H on (guests/world/sleep_memory.cpp), which are ordinary
// memory. S5 has type 5.
[[nodiscard]] std::vector<std::string> sleep_tables();

}  // namespace flatback::tools
