// What an interrupt or exception in L0 leaves of what it interrupted.
#pragma once

#include <cstdint>

namespace flatback::metal {

// As metal/ground/interrupts.S lays it on the stack.
struct InterruptFrame {
    std::uint64_t rax, rcx, rdx, rbx, rsp_placeholder, rbp, rsi, rdi;
    std::uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    std::uint64_t vector, error_code;
    std::uint64_t rip, cs, rflags, rsp, ss;
};

}  // namespace flatback::metal
