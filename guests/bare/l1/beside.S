# What a copy of this image for another place says of itself, behind the Multiboot header, and where the processor that
# is to run it comes from the image that has loaded it (beside.cpp): RDI is what they share, RSI its number.

.section .beside, "a"
.balign 16
.globl beside_header
beside_header:
    .quad 0x4B43414254414C46            # as beside.cpp has it
    .quad image_begin, image_loaded_end, image_end, beside_start

.section .text
.globl beside_start
.balign 16
beside_start:
    cli
    cld
    movq $boot_pml4, %rax
    movq %rax, %cr3
    movq $boot_stack_top, %rsp
    xorl %ebp, %ebp
    call beside_main
1:  cli
    hlt
    jmp 1b

.section .note.GNU-stack, "", @progbits
