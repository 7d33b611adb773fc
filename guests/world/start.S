// Multiboot 1 header, the way in, calls of the firmware in real mode, and what another processor would run.
        .set    magic, 0x1BADB002
        .set    flags, 0x3              // modules on page borders, memory information
        .set    real_code, 0x7000       // the part below, copied there; its words are addressed from `thunk`
        .set    flat_code, 0x08
        .set    flat_data, 0x10
        .set    real_code_selector, 0x18
        .set    real_data_selector, 0x20

        .section .multiboot, "a"
        .align  4
        .long   magic, flags, -(magic + flags)

        .text
        .code32
        .globl  _start
_start: cli
        cld
        mov     $stack_top, %esp
        lgdt    gdt_pointer
        ljmp    $flat_code, $1f
1:      mov     $flat_data, %ecx
        mov     %ecx, %ds
        mov     %ecx, %es
        mov     %ecx, %ss
        mov     %ecx, %fs
        mov     %ecx, %gs
        push    %ebx
        push    %eax
        call    world_main
2:      cli
        hlt
        jmp     2b

// void call_firmware(): what firmware_registers (support.hpp) at 7E00H hold goes into the registers, the call is made,
// and they hold what came back.
        .globl  call_firmware
call_firmware:
        pusha
        mov     %esp, saved_stack
        mov     $thunk, %esi
        mov     $real_code, %edi
        mov     $(thunk_end - thunk), %ecx
        rep movsb
        ljmp    $real_code_selector, $(real_code + real_entry - thunk)
back:   mov     $flat_data, %ecx
        mov     %ecx, %ds
        mov     %ecx, %es
        mov     %ecx, %ss
        mov     saved_stack, %esp
        cld
        popa
        ret

        .code16
thunk:
real_entry:
        mov     $real_data_selector, %cx
        mov     %cx, %ds
        mov     %cx, %es
        mov     %cx, %ss
        lidtl   %cs:(real_code + real_idt - thunk)
        mov     %cr0, %eax
        and     $0xFFFFFFFE, %eax
        mov     %eax, %cr0
        ljmp    $0, $(real_code + 1f - thunk)
1:      xor     %cx, %cx
        mov     %cx, %ds
        mov     %cx, %es
        mov     %cx, %ss
        mov     $0x7000, %sp
        movl    0x7E00, %eax
        movl    0x7E04, %ebx
        movl    0x7E08, %ecx
        movl    0x7E0C, %edx
        movl    0x7E10, %edi
        cmpb    $0x12, 0x7E18
        je      2f
        stc
        int     $0x15
        jmp     3f
2:      int     $0x12
3:      cli
        pushfl
        push    %ds
        push    $0
        pop     %ds
        movl    %eax, 0x7E00
        movl    %ebx, 0x7E04
        movl    %ecx, 0x7E08
        movl    %edx, 0x7E0C
        movl    %edi, 0x7E10
        pop     %ax
        popl    0x7E14
        lgdtl   real_code + gdt_pointer_copy - thunk
        mov     %cr0, %eax
        or      $1, %eax
        mov     %eax, %cr0
        ljmpl   $flat_code, $back
        .balign 4
real_idt:
        .word   0x3FF
        .long   0
gdt_pointer_copy:
        .word   gdt_end - gdt - 1
        .long   gdt
thunk_end:

// Another processor's first instructions, in real mode at 8000H: it counts itself, and stays.
        .globl  other_processor, other_processor_end
other_processor:
        xor     %ax, %ax
        mov     %ax, %ds
        lock incw 0x7FF0
1:      cli
        hlt
        jmp     1b
other_processor_end:

        .data
        .balign 8
gdt:    .quad   0
        .quad   0x00CF9B000000FFFF
        .quad   0x00CF93000000FFFF
        .quad   0x00009B000000FFFF      // 16 bits, at 0
        .quad   0x000093000000FFFF
gdt_end:
gdt_pointer:
        .word   gdt_end - gdt - 1
        .long   gdt
        .balign 4
saved_stack:
        .long   0
        .bss
        .balign 16
        .skip   16384
stack_top:
        .section .note.GNU-stack, "", @progbits
