// Filling a VMCS with 32-bit VMWRITEs: host state is this guest's current state, L2 is 32-bit.
#pragma once

#include <cstdint>

#include "guests/bare32/paging.hpp"
#include "guests/bare32/vmx_instructions.hpp"

namespace flatback::guests::bare32 {

// Of the capability MSRs, what this guest uses.
struct Capabilities {
    std::uint64_t basic, misc, ept_vpid;
    std::uint64_t pin, primary, secondary, exit, entry;

    std::uint32_t revision() const { return static_cast<std::uint32_t>(basic) & 0x7FFFFFFF; }
    bool offers_ept() const;
};
extern Capabilities capabilities;

Capabilities read_capabilities();

// The wanted bits, and those that the processor wants, of what it allows.
std::uint32_t adjust(std::uint64_t capability, std::uint32_t wanted);

// How L2 runs: its paging, on this guest's own tables, and with EPT (everything onto itself) or without.
struct Plan {
    Paging paging = Paging::none;
    bool ept = true;
    const char* program = nullptr;
};

// Fills the current VMCS.
void fill_vmcs(const Plan& plan);

std::uint64_t ept_pointer();

// A page with the revision identifier; from a few, of which `index` chooses one.
constexpr unsigned vmcs_regions = 4;
Page& vmcs_region(unsigned index);

// Clears the region, makes it current and fills it.
void start_vmcs(unsigned index, const Plan& plan);

// CR0, CR4 and VMXON, in a region that is no VMCS. What VMXON said.
Outcome enter_vmx_operation();

}  // namespace flatback::guests::bare32
