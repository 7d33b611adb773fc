// The world switch into L2 and back.
#pragma once

#include <cstdint>

namespace flatback::guests {

// L2's registers that no VMCS holds; the offsets are known to enter_l2.S.
struct GuestRegisters {
    std::uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
};

extern "C" {
// VMLAUNCH or VMRESUME of the current VMCS. Returns 0 after a VM exit; otherwise see enter_l2.S.
std::uint64_t enter_l2(GuestRegisters* registers, bool launch);

extern char l2_exit[];
extern char exit_stack[];
}

}  // namespace flatback::guests
