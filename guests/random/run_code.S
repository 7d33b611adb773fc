# run_code(CodeRegisters* registers, const void* code): runs instructions that were made a moment ago. They end in a
# jump to run_code_end; an exception in them comes there too, by handle_interrupt.

.section .text
.balign 16
.globl run_code
run_code:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq %rdi
    movq %rsp, run_code_stack(%rip)
    movq %rsi, run_code_entry(%rip)
    pushq 0x78(%rdi)
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
    popfq
    movq 0x28(%rdi), %rdi
    jmp *run_code_entry(%rip)

.balign 16
.globl run_code_end
run_code_end:
    movq %rdi, run_code_rdi(%rip)
    movq run_code_stack(%rip), %rsp
    pushfq
    cld
    cli
    movq 8(%rsp), %rdi
    popq 0x78(%rdi)
    movq %rax, 0x00(%rdi)
    movq %rbx, 0x08(%rdi)
    movq %rcx, 0x10(%rdi)
    movq %rdx, 0x18(%rdi)
    movq %rsi, 0x20(%rdi)
    movq %rbp, 0x30(%rdi)
    movq %r8,  0x38(%rdi)
    movq %r9,  0x40(%rdi)
    movq %r10, 0x48(%rdi)
    movq %r11, 0x50(%rdi)
    movq %r12, 0x58(%rdi)
    movq %r13, 0x60(%rdi)
    movq %r14, 0x68(%rdi)
    movq %r15, 0x70(%rdi)
    movq run_code_rdi(%rip), %rax
    movq %rax, 0x28(%rdi)
    addq $8, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

.section .bss
.balign 16
.globl run_code_stack
run_code_stack:
    .skip 8
run_code_entry:
    .skip 8
run_code_rdi:
    .skip 8

.section .note.GNU-stack, "", @progbits
