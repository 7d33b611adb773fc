# Stands in for the decompressor of a Linux bzImage whose kernel lies behind this code uncompressed, at its place:
# goes to long mode with the first 4 GB mapped onto themselves and enters the kernel as the decompressor would.
# (Linux: Documentation/arch/x86/boot.rst, 32-bit and 64-bit boot protocol.)

.set room, 0x10000                      # what this code and its tables take, with the padding
.set kernel, 0x1000000                  # where Linux is linked to run
.set pml4, kernel - 0x8000              # then the PDPT, then four page directories, all in the padding
.set pdpt, pml4 + 0x1000
.set directories, pml4 + 0x2000

.text
.code32
.globl start
start:                                  # ESI: boot_params. Interrupts are off, segments are flat, no stack.
    cld                                 # The header's preferred address brings this code to kernel - room.
    movl $pml4, %edi
    movl %edi, %cr3
    xorl %eax, %eax
    movl $0x6000 / 4, %ecx
    rep stosl
    movl $pdpt + 3, pml4
    movl $directories + 3, %eax
    movl $pdpt, %edi
2:  movl %eax, (%edi)                   # four entries, 1 GB each
    addl $8, %edi
    addl $0x1000, %eax
    cmpl $directories + 0x4003, %eax
    jne 2b
    movl $directories, %edi
    movl $0x83, %eax                    # 2 MB pages, writable
3:  movl %eax, (%edi)
    addl $8, %edi
    addl $0x200000, %eax
    cmpl $0x83, %eax                    # after 4 GB it is there again
    jne 3b

    movl $0x20, %eax                    # CR4.PAE
    movl %eax, %cr4
    movl $0xC0000080, %ecx              # IA32_EFER
    rdmsr
    orl $0x100, %eax                    # LME
    wrmsr
    movl $0x80000011, %eax              # CR0: PG, ET, PE
    movl %eax, %cr0
    lgdt gdt_pointer - start + kernel - room
    ljmp $0x10, $4f - start + kernel - room

.code64
4:  movl $0x18, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %esi, %esi
    movl $kernel, %eax
    jmp *%rax

.balign 8
gdt:
    .quad 0, 0
    .quad 0x00AF9B000000FFFF            # 10: 64-bit code, as the boot protocol wants it
    .quad 0x00CF93000000FFFF            # 18: data
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt - start + kernel - room

.section .note.GNU-stack, "", @progbits
