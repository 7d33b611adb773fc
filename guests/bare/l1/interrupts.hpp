// The IDT: faults of instructions that say where to go on are values; every other exception ends the run.
#pragma once

#include <cstdint>

namespace flatback::guests {

// What vectors.S leaves on the stack.
struct InterruptFrame {
    std::uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    std::uint64_t vector, error_code;
    std::uint64_t rip, cs, rflags, rsp, ss;
};

// The last recovered fault. An instruction joins the recovery by an entry {its address, where to go on} in
// the section .recovery; clear `taken` before it and look after it.
struct Fault {
    bool taken;
    std::uint8_t vector;
    std::uint32_t error_code;
    std::uint64_t cr2;
};
extern volatile Fault last_fault;

// How often each vector arrived without recovery: only vectors that count_interrupts admitted.
extern volatile std::uint64_t interrupt_count[256];
// Where the last of them interrupted L1.
extern volatile std::uint64_t interrupted_rip;

// Lets a vector arrive: it is counted and, from 32 up, acknowledged at the local APIC.
void count_interrupts(std::uint8_t vector);

// An NMI exit leaves NMIs blocked until the next IRET, which this is.
void unblock_nmi();

// Loads GDT, TSS and IDT.
void start_interrupts();
// The IDT alone, on another processor.
void load_interrupt_table();

}  // namespace flatback::guests
