// What this processor's VMX can do, read from its capability MSRs: SDM 3D appendix A.
#pragma once

#include <cstdint>

#include "vmx/capability.hpp"

namespace flatback::guests {

struct Capabilities {
    std::uint64_t basic;
    std::uint64_t misc;
    std::uint64_t ept_vpid;
    std::uint64_t cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
    vmx::ControlCapability pin, primary, secondary, exit, entry;

    std::uint32_t revision() const { return static_cast<std::uint32_t>(basic) & 0x7FFFFFFF; }
    // How many CR3-target values there are.
    unsigned cr3_targets() const { return static_cast<unsigned>(misc >> 16 & 0x1FF); }
    bool has_invvpid() const { return (ept_vpid >> 32 & 1) != 0; }
    bool has_invvpid_type(unsigned type) const { return (ept_vpid >> (40 + type) & 1) != 0; }
    bool has_invept() const { return (ept_vpid >> 20 & 1) != 0; }
    bool has_invept_type(unsigned type) const { return (ept_vpid >> (24 + type) & 1) != 0; }
};

Capabilities read_capabilities();

// Those of this run, set once by main.
extern Capabilities capabilities;

// True under Flatback's L0, whose signature is in CPUID leaf 40000000H.
bool under_flatback();

// True where the processor beneath is emulated by Bochs, whether or not an L0 is in between. Bochs' debug
// port tells; behind a hypervisor with a machine of its own, who starts this guest (tell_of_bochs).
bool beneath_is_bochs();
void tell_of_bochs();

// True where CPUID says that a hypervisor is there.
bool under_a_hypervisor();

// True directly on the emulator Bochs, whose known deviations the checks name.
bool directly_on_bochs();

}  // namespace flatback::guests
