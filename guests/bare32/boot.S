# Multiboot 1 header. The loader leaves this guest in 32-bit protected mode without paging, which is where it begins.

.set multiboot_magic, 0x1BADB002
.set multiboot_flags, 3                 # modules on page boundaries, memory map wanted

.section .multiboot, "a"
.balign 4
    .long multiboot_magic
    .long multiboot_flags
    .long -(multiboot_magic + multiboot_flags)

.section .text
.globl start
start:
    cli
    cld
    movl $boot_stack_top, %esp
    lgdt boot_gdt_pointer
    ljmp $0x08, $1f
1:  movl $0x10, %ecx
    movl %ecx, %ds
    movl %ecx, %es
    movl %ecx, %ss
    xorl %ecx, %ecx
    movl %ecx, %fs
    movl %ecx, %gs
    xorl %ebp, %ebp
    pushl %ebx
    pushl %eax
    call bare32_main
2:  cli
    hlt
    jmp 2b

.section .data
.balign 16
.globl boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00CF9B000000FFFF            # 08: 32-bit code
    .quad 0x00CF93000000FFFF            # 10: data
    .quad 0                             # 18: the TSS, filled in by interrupts.cpp
    .quad 0                             # 20: the segment that a check describes
    .quad 0x00EF9B000000FFFF            # 28: 32-bit code with L, which is reserved outside IA-32e mode
boot_gdt_end:
boot_gdt_pointer:
    .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt

.section .bss
.balign 16
    .skip 32768
.globl boot_stack_top
boot_stack_top:

.section .note.GNU-stack, "", @progbits
