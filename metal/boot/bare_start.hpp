// The machine without a hypervisor: what L1 measures is compared with it.
#pragma once

#include "metal/boot/boot_result.hpp"

namespace flatback::metal {

// Leaves the machine to L1 as it is, never in VMX operation; L0 is gone for good. The L1 must start in long
// mode.
[[noreturn]] void start_without_hypervisor(const BootResult& boot);

}  // namespace flatback::metal
