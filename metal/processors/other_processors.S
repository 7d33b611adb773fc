// The way of another processor from SIPI to park_this_processor.
        .set    cr4_pae, 1 << 5
        .set    efer, 0xC0000080
        .set    lme_nxe, (1 << 8) | (1 << 11)
        .set    cr0_to_long_mode, (1 << 31) | (1 << 16) | (1 << 5) | (1 << 4) | 1   // PG, WP, NE, ET, PE

// Copied to a page below 1 MB, where it begins in real mode at offset 0 of its segment. The words at its end are
// other_processors.cpp's.
        .section .rodata
        .balign 16
        .globl  trampoline_start, trampoline_words, trampoline_end
        .code16
trampoline_start:
        cli
        cld
        mov     %cs, %ax
        mov     %ax, %ds
        lgdtl   trampoline_words + 16 - trampoline_start
        mov     $cr4_pae, %eax
        mov     %eax, %cr4
        mov     trampoline_words - trampoline_start, %eax
        mov     %eax, %cr3
        mov     $efer, %ecx
        rdmsr
        or      $lme_nxe, %eax
        wrmsr
        mov     $cr0_to_long_mode, %eax
        mov     %eax, %cr0
        ljmpl   *(trampoline_words + 4 - trampoline_start)
        .code64
trampoline_long_mode:
        movabsq $other_processor_entry, %rax
        jmp     *%rax
        .balign 8
trampoline_words:
        .long   0                                       // 0: CR3
        .long   trampoline_long_mode - trampoline_start // 4: far pointer; the page's address is added
        .short  0x08, 0
        .long   0                                       // 12
        .short  23                                      // 16: GDTR
        .long   trampoline_gdt - trampoline_start       // 18: the page's address is added
        .balign 8
trampoline_gdt:
        .quad   0
        .quad   0x00AF9B000000FFFF                      // 64-bit code
        .quad   0x00CF93000000FFFF                      // data
trampoline_end:

        .text
other_processor_entry:
        movq    other_processors_cr3(%rip), %rax
        movq    %rax, %cr3
        xorl    %eax, %eax                              // GDTR still points to the page that is now gone: no selector
        movl    %eax, %ss                               // but the null one can be loaded
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %fs
        movl    %eax, %gs
        movl    $1, %edi
        lock xaddl %edi, other_processors_arrived(%rip)
        cmpl    other_processors_places(%rip), %edi
        jae     1f
        movl    %edi, %eax
        incl    %eax
        shlq    $13, %rax                               // 8 KB each: the VMXON region, then the stack
        addq    other_processors_memory(%rip), %rax
        movq    %rax, %rsp
        xorl    %ebp, %ebp
        call    park_this_processor
1:      cli
        hlt
        jmp     1b

// void halt_until_started(const std::atomic<std::int32_t>*): an NMI on the way to the halt begins it again
// (metal/ground/entry_window.hpp), so that one that tells of the start is not slept over.
        .globl  halt_until_started, halted_until_started
halt_until_started:
        cmpl    $0, (%rdi)
        jge     halted_until_started
        hlt
        jmp     halt_until_started
halted_until_started:
        ret

// The handlers of a parked processor: it goes back to its halt.
        .balign 16
        .globl  parked_nmi, parked_machine_check
parked_nmi:
        iretq
        .balign 16
parked_machine_check:
        pushq   %rax
        pushq   %rcx
        pushq   %rdx
        movl    $0x17A, %ecx                            // IA32_MCG_STATUS: in progress no more, so that a next one
        xorl    %eax, %eax                              // is taken too and no shutdown
        xorl    %edx, %edx
        wrmsr
        popq    %rdx
        popq    %rcx
        popq    %rax
        iretq

        .section .note.GNU-stack, "", @progbits
