# Multiboot 1 header and the way from 32-bit protected mode to long mode.

.set multiboot_magic, 0x1BADB002
.set multiboot_flags, 3                 # modules on page boundaries, memory map wanted

.section .multiboot, "a"
.balign 4
    .long multiboot_magic
    .long multiboot_flags
    .long -(multiboot_magic + multiboot_flags)

.section .text
.code32
.globl start
start:
    cli
    cld
    movl $boot_stack_top, %esp
    movl %eax, %edi                     # the loader's magic and its information, as main's parameters
    movl %ebx, %esi

    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl $0x20, %eax                    # CR4.PAE
    movl %eax, %cr4
    movl $0xC0000080, %ecx              # IA32_EFER
    rdmsr
    orl $0x900, %eax                    # LME, NXE
    wrmsr
    movl $0x80010031, %eax              # CR0: PG, WP, NE, ET, PE
    movl %eax, %cr0
    lgdt boot_gdt_pointer
    ljmp $0x08, $start64

.code64
start64:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl %edi, %edi
    movl %esi, %esi
    movq $boot_stack_top, %rsp
    xorl %ebp, %ebp
    call bare_main
1:  cli
    hlt
    jmp 1b

.section .data
.balign 16
.globl boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00AF9B000000FFFF            # 08: 64-bit code
    .quad 0x00CF93000000FFFF            # 10: data
    .quad 0, 0                          # 18: the TSS, filled in by cpu.cpp
    .quad 0x00CF9B000000FFFF            # 28: 32-bit code
boot_gdt_end:
boot_gdt_pointer:
    .word boot_gdt_end - boot_gdt - 1
    .quad boot_gdt

# The first 4 GB, linear = physical, in 2 MB pages.
.balign 4096
.globl boot_pml4
boot_pml4:
    .quad boot_pdpt + 3
    .fill 511, 8, 0
.globl boot_pdpt
boot_pdpt:
    .quad boot_pd + 3, boot_pd + 0x1003, boot_pd + 0x2003, boot_pd + 0x3003
    .fill 508, 8, 0
boot_pd:
.set page, 0
.rept 2048
    .quad page + 0x83
    .set page, page + 0x200000
.endr

.section .bss
.balign 16
    .skip 65536
.globl boot_stack_top
boot_stack_top:

.section .note.GNU-stack, "", @progbits
