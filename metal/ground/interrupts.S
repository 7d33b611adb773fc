// Interrupt and exception stubs of L0. L0 runs with interrupts disabled; what arrives here is a fault of L0's own (some
// with a fixup), an NMI, or an external interrupt in the short window that metal/ground/interrupts.cpp opens.

#include "metal/ground/registers.inc"

        .text
        .altmacro
        .macro stub vector
        .balign 16
        .if (\vector == 8) || ((\vector >= 10) && (\vector <= 14)) || (\vector == 17) || (\vector == 21)
        .else
        pushq $0
        .endif
        pushq $\vector
        jmp interrupt_common
        .endm

        .balign 16
        .globl interrupt_stubs
interrupt_stubs:
        .set vector, 0
        .rept 256
        stub %vector
        .set vector, vector + 1
        .endr

        // The same without error codes: in the window for external interrupts every vector is one, even those below 32,
        // where an unprogrammed 8259 delivers. Exceptions cannot happen there; NMI and #MC have no error code.
        .macro window_stub vector
        .balign 16
        pushq $0
        pushq $\vector
        jmp interrupt_common
        .endm

        .balign 16
        .globl window_stubs
window_stubs:
        .set vector, 0
        .rept 256
        window_stub %vector
        .set vector, vector + 1
        .endr

interrupt_common:
        push_registers
        cld
        movq %rsp, %rdi                 // InterruptFrame&
        subq $8, %rsp                   // 23 words lie on a stack that was aligned to 16
        call handle_interrupt
        addq $8, %rsp
        testb %al, %al
        jnz 1f
        pop_registers
        addq $16, %rsp
        iretq

1:      // What IRET does, but that NMIs stay blocked: RIP, RFLAGS and RAX go onto the interrupted stack, below its RSP, where
        // code of L0's has nothing.
        pop_registers
        addq $16, %rsp                  // RIP, CS, RFLAGS, RSP, SS
        pushq %rax
        pushq %rcx
        movq 40(%rsp), %rax             // RSP
        movq 16(%rsp), %rcx
        movq %rcx, -8(%rax)             // RIP
        movq 32(%rsp), %rcx
        movq %rcx, -16(%rax)            // RFLAGS
        movq 8(%rsp), %rcx
        movq %rcx, -24(%rax)            // RAX
        popq %rcx
        leaq -24(%rax), %rsp
        popq %rax
        popfq
        retq

        .section .note.GNU-stack, "", @progbits
