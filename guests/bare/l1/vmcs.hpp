// Filling a VMCS: all of it, by VMWRITE, about 110 fields.
#pragma once

#include <cstdint>

#include "guests/bare/l1/pages.hpp"

namespace flatback::guests {

// What differs from one L2 to the next. Controls are adjusted to what the processor allows.
struct VmcsPlan {
    std::uint32_t pin = 0;
    std::uint32_t primary = 0;
    std::uint32_t secondary = 0;
    std::uint32_t exit = 0;
    std::uint32_t entry = 0;
    std::uint64_t rip = 0;
    std::uint64_t rsp = 0;
    std::uint64_t cr3 = 0;
    std::uint64_t ept_pointer = 0;
    std::uint64_t msr_bitmaps = 0;
    std::uint16_t vpid = 0;
};

// The usual L2: 64-bit, EPT, unrestricted guest, a VPID of 1, HLT exiting, no MSR and I/O exits but RDMSR and
// WRMSR of everything; it runs at `rip` with this guest's own page tables.
VmcsPlan usual_plan(std::uint64_t rip, std::uint64_t ept_pointer);

// Writes every field of the current VMCS. Host state is this guest's current state.
void fill_vmcs(const VmcsPlan& plan);

// Of the current VMCS, the host state that is a processor's own.
void write_own_host_state();

// A page with the revision identifier in it.
Page* new_vmcs_region();

// Enters VMX operation, for good: CR0, CR4, VMXON. False where the processor cannot.
bool enter_vmx_operation();

// The region that enter_vmx_operation gave to VMXON.
Page* vmxon_region();

}  // namespace flatback::guests
