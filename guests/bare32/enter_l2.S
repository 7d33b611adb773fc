# enter_l2(GuestRegisters* registers, bool launch): runs L2 until its next VM exit. 0 after an exit; otherwise the flags of
# the VMX instruction (bit 1 is always one), or last_fault is set. HOST_ESP is exit_stack, HOST_EIP is l2_exit.

.section .text
.globl enter_l2
.balign 16
enter_l2:
    pushl %ebx
    pushl %ebp
    pushl %esi
    pushl %edi
    movl 20(%esp), %eax                 # registers
    movl %esp, saved_esp
    movl %eax, saved_registers
    cmpb $0, 24(%esp)                   # launch
    movl 4(%eax), %ebx
    movl 8(%eax), %ecx
    movl 12(%eax), %edx
    movl 16(%eax), %esi
    movl 20(%eax), %edi
    movl 24(%eax), %ebp
    movl 0(%eax), %eax
    jne 1f
3:  vmresume
    jmp 2f
1:  vmlaunch
2:  pushfl
    popl %eax
4:  popl %edi
    popl %esi
    popl %ebp
    popl %ebx
    ret
    .pushsection .recovery, "a"
    .long 3b, 2b
    .long 1b, 2b
    .popsection

.globl l2_exit
.balign 16
l2_exit:
    pushl %eax
    movl saved_registers, %eax
    movl %ebx, 4(%eax)
    movl %ecx, 8(%eax)
    movl %edx, 12(%eax)
    movl %esi, 16(%eax)
    movl %edi, 20(%eax)
    movl %ebp, 24(%eax)
    popl 0(%eax)
    movl saved_esp, %esp
    xorl %eax, %eax
    jmp 4b

.section .bss
.balign 16
saved_esp:
    .skip 4
saved_registers:
    .skip 4
    .skip 248
.globl exit_stack
exit_stack:

.section .note.GNU-stack, "", @progbits
