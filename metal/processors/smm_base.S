// The handler of a system-management interrupt at 38000H, for a processor whose base the firmware has not moved: it moves
// it. Copied there; what it finds is the state of SDM 3C 32.4 and 32.5: 16-bit code, data segments from 0 to 4 GB.
        .set    handler, 0x38000
        .set    saved_revision, 0x3FEFC
        .set    saved_base, 0x3FEF8                     // SDM 3C tables 32-1 and 32-3
        .set    saved_base_64, 0x3FF00                  // where the map of the state is the one of revision 64H
        .set    revision_64, 0x64

        .section .rodata
        .balign 16
        .globl  smm_mover_start, smm_mover_words, smm_mover_end
        .code16
smm_mover_start:
        movl    $saved_revision, %ebx
        addr32 movl (%ebx), %eax
        movl    $saved_base, %ecx
        cmpw    $revision_64, %ax
        jne     1f
        movl    $saved_base_64, %ecx
1:      movl    $handler + smm_mover_words - smm_mover_start, %ebx
        addr32 movl (%ebx), %eax
        addr32 movl %eax, (%ecx)
        addr32 movl $1, 4(%ebx)
        rsm
        .balign 8
smm_mover_words:
        .long   0                                       // the new base
        .long   0                                       // 1: it is set
smm_mover_end:
        .code64

        .section .note.GNU-stack, "", @progbits
