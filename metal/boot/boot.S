// The first instructions of L0: from GRUB's 32-bit protected mode (Multiboot2 specification, "Machine state") to long mode.
        .set kernel_base, 0xFFFFFFFF80000000
        .set page_present_write, 0x03
        .set page_large, 0x80
        .set image_pages, 16            // of 2 MB, from the address 0 of the link on: linker.ld checks it

        .section .multiboot2, "a"
        .balign 8
multiboot2_header:
        .long 0xE85250D6                // magic
        .long 0                         // i386 protected mode
        .long multiboot2_header_end - multiboot2_header
        .long -(0xE85250D6 + 0 + (multiboot2_header_end - multiboot2_header))
        .balign 8                       // module alignment tag: modules on page boundaries
        .short 6, 0
        .long 8
        .balign 8                       // entry address tag
        .short 3, 0
        .long 12
        .long boot_entry_physical
        .balign 8                       // relocatable tag: firmware may keep the memory where the image was linked
        .short 10, 0
        .long 24
        .long 0x200000                  // at least here,
        .long 0x7FFFFFFF                // at most here: the boot page tables see 4 GB
        .long 0x200000                  // in steps of 2 MB, a page of theirs
        .long 1                         // as low as can be
        .balign 8                       // console flags tag: text on a VGA is as good as a framebuffer
        .short 4, 1                     // optional
        .long 12
        .long 2
        .balign 8                       // framebuffer tag: any mode; without it UEFI shows none
        .short 5, 1                     // optional
        .long 20
        .long 0, 0, 0
        .balign 8
        .short 0, 0
        .long 8
multiboot2_header_end:

        .set boot_entry_physical, boot_entry - kernel_base

        .section .boot, "ax"
        .code32
        .globl boot_entry
boot_entry:
        cli
        cld
        // Where the image is: EBP is how far from where it was linked. A call needs a stack, and the one memory
        // that is known is the information: its second word is reserved.
        leal 8(%ebx), %esp
        call 0f
0:      popl %ebp
        subl $(0b - kernel_base), %ebp
        leal boot_stack_top - kernel_base(%ebp), %esp
        movl %eax, %edi                 // magic: first argument of boot_main
        movl %ebx, %esi                 // Multiboot2 information: second

        // A processor without long mode cannot run the rest: say so and stop.
        movl $0x80000000, %eax
        cpuid
        cmpl $0x80000001, %eax
        jb no_long_mode
        movl $0x80000001, %eax
        cpuid
        testl $(1 << 29), %edx
        jz no_long_mode

        // Low pointers: the first 4 GB, identity, 2 MB a page.
        leal boot_page_directories - kernel_base(%ebp), %ebx
        movl $(page_present_write | page_large), %eax
        xorl %ecx, %ecx
1:      movl %eax, (%ebx, %ecx, 8)
        movl $0, 4(%ebx, %ecx, 8)
        addl $0x200000, %eax
        incl %ecx
        cmpl $2048, %ecx
        jne 1b
        // High pointers: the image and what is linked below it, from where it is.
        leal boot_image_directory - kernel_base(%ebp), %ebx
        leal page_present_write | page_large(%ebp), %eax
        xorl %ecx, %ecx
2:      movl %eax, (%ebx, %ecx, 8)
        movl $0, 4(%ebx, %ecx, 8)
        addl $0x200000, %eax
        incl %ecx
        cmpl $image_pages, %ecx
        jne 2b
        leal boot_pdpt_high - kernel_base(%ebp), %edx
        leal boot_image_directory - kernel_base + page_present_write(%ebp), %eax
        movl %eax, 510*8(%edx)
        leal boot_page_directories - kernel_base + page_present_write(%ebp), %eax
        leal boot_pdpt_low - kernel_base(%ebp), %ebx
        xorl %ecx, %ecx
3:      movl %eax, (%ebx, %ecx, 8)
        addl $4096, %eax
        incl %ecx
        cmpl $4, %ecx
        jne 3b
        leal boot_pml4 - kernel_base(%ebp), %ebx
        leal boot_pdpt_low - kernel_base + page_present_write(%ebp), %eax
        movl %eax, (%ebx)
        leal boot_pdpt_high - kernel_base + page_present_write(%ebp), %eax
        movl %eax, 511*8(%ebx)

        movl %cr4, %eax
        orl $(1 << 5), %eax             // CR4.PAE
        movl %eax, %cr4
        movl %ebx, %cr3
        movl $0xC0000080, %ecx          // IA32_EFER
        rdmsr
        orl $((1 << 8) | (1 << 11)), %eax  // LME, NXE
        wrmsr
        movl %cr0, %eax
        orl $((1 << 31) | (1 << 16) | (1 << 5) | 1), %eax  // PG, WP, NE, PE
        andl $~((1 << 30) | (1 << 29)), %eax               // caches on
        movl %eax, %cr0
        leal boot_gdt - kernel_base(%ebp), %eax
        movl %eax, boot_gdt_pointer + 2 - kernel_base(%ebp)
        lgdt boot_gdt_pointer - kernel_base(%ebp)
        leal boot_long_mode - kernel_base(%ebp), %eax
        pushl $0x08
        pushl %eax
        lretl

no_long_mode:
        leal no_long_mode_text - kernel_base(%ebp), %esi
        movw $0x3F8, %dx
4:      lodsb
        testb %al, %al
        jz 5f
        outb %al, %dx
        jmp 4b
5:      hlt
        jmp 5b
no_long_mode_text:
        .asciz "FLATBACK error L0: this processor has no 64-bit mode; Flatback needs one with VT-x and EPT\r\n"

        .code64
boot_long_mode:
        movl $0x10, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        xorl %eax, %eax
        movl %eax, %fs
        movl %eax, %gs
        movq $boot_stack_top, %rsp
        movl %edi, %edi                 // zero-extend both arguments
        movl %esi, %esi
        movslq %ebp, %rdx               // third: how far the image is from where it was linked
        xorl %ebp, %ebp
        movabsq $boot_main, %rax
        call *%rax
        ud2

        .section .rodata
        .balign 8
boot_gdt:
        .quad 0
        .quad 0x00AF9B000000FFFF        // 64-bit code
        .quad 0x00CF93000000FFFF        // data
boot_gdt_pointer:
        .short . - boot_gdt - 1
        .quad 0                         // its physical address
        // A marker that must never be readable by L1: the boot tests look for it.
        .globl l0_secret
l0_secret:
        .asciz "FLATBACK-L0-SECRET"

        .bss
        .balign 4096
boot_pml4:              .skip 4096
boot_pdpt_low:          .skip 4096
boot_pdpt_high:         .skip 4096
boot_image_directory:   .skip 4096
boot_page_directories:  .skip 4*4096
        .globl boot_stack_bottom, boot_stack_top
boot_stack_bottom:      .skip 32768
boot_stack_top:

        .section .note.GNU-stack, "", @progbits
