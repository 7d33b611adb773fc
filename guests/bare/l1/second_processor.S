# Another processor's way from SIPI to other_main. Copied to a page below 1 MB, where it begins in real mode at offset 0 of
# its segment; the page is second_start_page (second_processor.cpp).

.set page, 0x8000
.set others, 7      # as most_others

.section .rodata
.globl second_start, second_start_end
.code16
second_start:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    movl %edx, second_edx - second_start    # as INIT has left it
    movl %cr0, %eax
    movl %eax, second_cr0 - second_start
    lgdtl second_gdt_pointer - second_start
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
    ljmpl $0x08, $second_start_64
.balign 4
second_gdt_pointer:
    .word 0x2F
    .long boot_gdt
.balign 4
second_edx: .long 0
second_cr0: .long 0
second_start_end:

.globl second_edx_offset, second_cr0_offset
.set second_edx_offset, second_edx - second_start
.set second_cr0_offset, second_cr0 - second_start

.section .text
.code64
second_start_64:
    # Each has its place in the table from the first time that it comes; the first is the second processor.
    movl $1, %eax
    cpuid
    shrl $24, %ebx
    xorl %edi, %edi
3:  movl $-1, %eax
    lock cmpxchgl %ebx, other_apic_ids(, %rdi, 4)
    je 2f
    cmpl %ebx, %eax
    je 2f
    incl %edi
    cmpl $others, %edi
    jb 3b
    jmp 1f
2:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    leal 1(%rdi), %esp
    shll $15, %esp
    addq $other_stacks, %rsp
    xorl %ebp, %ebp
    call other_main
1:  cli
    hlt
    jmp 1b

.section .data
.balign 4
.globl other_apic_ids
other_apic_ids: .fill others, 4, -1

.section .bss
.balign 16
other_stacks:
    .skip others << 15

.section .note.GNU-stack, "", @progbits
