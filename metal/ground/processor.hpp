// What L0 knows of the processor it runs on.
#pragma once

#include "vmx/capability.hpp"

namespace flatback::metal {

// This processor, checked: everything that Flatback cannot do without is there
// (metal/processors/processor_checks.hpp).
struct Processor {
    unsigned physical_address_width = 0;  // CPUID.80000008H:EAX[7:0]
    vmx::Capabilities capabilities;
    bool has_1g_pages = true;  // for L0's own paging; for EPT `capabilities` tells
    bool has_vpid = true;      // "enable VPID" and all types of INVVPID; else `capabilities` has none of them
};

}  // namespace flatback::metal
