// An IDT for L2: every vector ends in a VMCALL with the vector in RAX, the frame still on L2's stack.
#pragma once

#include <cstdint>

#include "guests/bare/l1/l2.hpp"

namespace flatback::guests {

constexpr std::uint64_t l2_idt_size = 4096;

// The table, linear = physical, on a page of its own.
std::uint64_t l2_idt();

// Where its handler of a vector begins.
std::uint64_t l2_handler(std::uint8_t vector);

// What the processor pushed for an event that L2's IDT took.
struct L2Frame {
    std::uint64_t vector;
    std::uint64_t error_code;  // 0 where there is none
    std::uint64_t rip, cs, rflags, rsp, ss;
};

// Gives the current VMCS this IDT and a stack whose top is `stack_top`.
void use_l2_idt(std::uint64_t stack_top);

// The frame that L2's handler left, after its VMCALL; L2 is then ready to return by return_from_l2_event.
L2Frame l2_frame(const L2& l2);

// Moves L2 to an IRET behind its handler's VMCALL.
void return_from_l2_event(const L2Frame& frame);

}  // namespace flatback::guests
