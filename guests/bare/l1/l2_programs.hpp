// Small programs that L2 runs, and how the benches drive them.
#pragma once

#include <cstdint>

#include "guests/bare/l1/l2.hpp"

namespace flatback::guests {

extern "C" {
// CPUID for ever.
extern char l2_cpuid_loop[];
// VMCALL for ever.
extern char l2_vmcall_loop[];
// Adds one to the first quadword of RCX pages from RDI on, then VMCALL; RDI is the next page then. For ever.
extern char l2_touch_pages[];
extern char l2_touch_sparse_pages[];
}

// Enters L2; an exit of another reason than this one ends the run.
void run_or_die(L2& l2, std::uint32_t reason);

// What a hypervisor does between a CPUID exit and the next: reads exit reason, guest RIP and instruction
// length, writes guest RIP, resumes.
void reflect_cpuid(L2& l2);

}  // namespace flatback::guests
