# enter_l2(GuestRegisters* registers, bool launch): runs L2 until its next VM exit.
# Returns 0 after an exit. Otherwise the entry did not happen: RFLAGS of the VMX instruction (bit 1 is always
# one), or last_fault is set. HOST_RSP is exit_stack (for another processor than the first where its GS has it), and HOST_RIP is l2_exit, in every VMCS, for good: an entry
# needs no VMWRITE of its own.

// An L1 that lets its exits load any GS base has one processor.
#ifdef FLATBACK_ONE_PROCESSOR
#define OWN(name) name(%rip)
#else
#define OWN(name) %gs:name
#endif

.section .text
.globl enter_l2
.balign 16
enter_l2:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq %rdi
    movq %rsp, OWN(saved_rsp)
    testl %esi, %esi
    movq 0x00(%rdi), %rax
    movq 0x08(%rdi), %rbx
    movq 0x10(%rdi), %rcx
    movq 0x18(%rdi), %rdx
    movq 0x20(%rdi), %rsi
    movq 0x30(%rdi), %rbp
    movq 0x38(%rdi), %r8
    movq 0x40(%rdi), %r9
    movq 0x48(%rdi), %r10
    movq 0x50(%rdi), %r11
    movq 0x58(%rdi), %r12
    movq 0x60(%rdi), %r13
    movq 0x68(%rdi), %r14
    movq 0x70(%rdi), %r15
    movq 0x28(%rdi), %rdi
    jnz 1f
3:  vmresume
    jmp 2f
1:  vmlaunch
2:  pushfq
    popq %rax
    popq %rdi
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret
    .pushsection .recovery, "a"
    .quad 3b, 2b
    .quad 1b, 2b
    .popsection

.globl l2_exit
.balign 16
l2_exit:
    pushq %rdi
    movq saved_rsp - exit_stack + 8(%rsp), %rdi
    movq (%rdi), %rdi
    movq %rax, 0x00(%rdi)
    movq %rbx, 0x08(%rdi)
    movq %rcx, 0x10(%rdi)
    movq %rdx, 0x18(%rdi)
    movq %rsi, 0x20(%rdi)
    popq 0x28(%rdi)
    movq %rbp, 0x30(%rdi)
    movq %r8,  0x38(%rdi)
    movq %r9,  0x40(%rdi)
    movq %r10, 0x48(%rdi)
    movq %r11, 0x50(%rdi)
    movq %r12, 0x58(%rdi)
    movq %r13, 0x60(%rdi)
    movq %r14, 0x68(%rdi)
    movq %r15, 0x70(%rdi)
    movq saved_rsp - exit_stack(%rsp), %rsp
    xorl %eax, %eax
    popq %rdi
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

# A processor's own: of the first, and of others (second_processor.hpp, which has their number).
.section .bss
.balign 16
.globl own_state, other_own_states, other_own_states_end
own_state:
saved_rsp:
    .skip 16
    .skip 256
.globl exit_stack
exit_stack:
.balign 16
other_own_states:
    .skip 7 * (exit_stack - own_state)
other_own_states_end:

.section .note.GNU-stack, "", @progbits
