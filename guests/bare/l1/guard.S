# call_part(void (*run)()): 0 when it returned, 1 when somebody jumped to resume_behind_part, however deep in it, on
# whatever stack. part_stack is 0 where no part runs.

.section .text
.globl call_part
.balign 16
call_part:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    subq $8, %rsp
    movq %rsp, part_stack(%rip)
    call *%rdi
    xorl %eax, %eax
    jmp 1f

.globl resume_behind_part
.balign 16
resume_behind_part:
    movq part_stack(%rip), %rsp
    cli
    cld
    movl $1, %eax
1:  movq $0, part_stack(%rip)
    addq $8, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

.section .bss
.balign 8
.globl part_stack
part_stack:
    .skip 8

.section .note.GNU-stack, "", @progbits
