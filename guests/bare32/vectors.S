# The stubs of the 32 exceptions: each leaves the same frame (struct Frame) for handle_exception.

.section .text
.balign 16
exception_common:
    pushal
    pushl %ds
    movl $0x10, %eax                    # an exception may come while DS is what a check made of it
    movl %eax, %ds
    movl %esp, %eax
    pushl %eax
    cld
    call handle_exception
    addl $4, %esp
    popl %ds
    popal
    addl $8, %esp
    iretl

.set vector, 0
.rept 32
    .balign 16
    .if vector == 0
.globl exception_stubs
exception_stubs:
    .endif
    # 8, 10 to 14, 17, 21, 29 and 30 push an error code.
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
    pushl $0
    .endif
    pushl $vector
    jmp exception_common
    .set vector, vector + 1
.endr

.section .note.GNU-stack, "", @progbits
