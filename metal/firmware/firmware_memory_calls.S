// What answers the firmware's calls about memory (INT 15H) once L0 has taken its part: an L1 that asks in real mode
// hears what the boot loader's map says too. Copied to a page of L1's low memory, at offset 0 of a segment; all other
// calls go on to the firmware. The data behind the code is metal/firmware/firmware_memory_calls.cpp's.
        .section .rodata
        .balign 16
        .code16
        .globl firmware_calls_start, firmware_calls_end, firmware_calls_data
firmware_calls_start:
        .set    smap, 0x534D4150

        cmp     $0xE820, %ax
        je      e820
        cmp     $0xE801, %ax
        je      e801
        cmp     $0xE881, %ax
        je      e881
        cmp     $0xDA88, %ax
        je      unsupported
        cmp     $0x88, %ah
        je      size88
        cmp     $0x8A, %ah
        je      unsupported
        cmp     $0xC7, %ah
        je      unsupported
        ljmp    *%cs:old_vector - firmware_calls_start

e820:   cmp     $smap, %edx
        jne     unsupported
        cmp     $20, %ecx
        jb      unsupported
        movzwl  %cs:entry_count - firmware_calls_start, %ecx
        cmp     %ecx, %ebx
        jae     unsupported
        push    %ds
        push    %si
        push    %di
        push    %cs
        pop     %ds
        imul    $20, %bx, %si
        add     $(firmware_calls_end - firmware_calls_start), %si
        inc     %ebx
        cmp     %ecx, %ebx
        jb      1f
        xor     %ebx, %ebx              // 0: that was the last
1:      mov     $10, %cx
        pushf
        cld
        rep movsw
        popf
        pop     %di
        pop     %si
        pop     %ds
        mov     $20, %ecx
        mov     $smap, %eax
        jmp     success

e881:   movzwl  %cs:size_below_16m - firmware_calls_start, %eax
        movzwl  %cs:size_above_16m - firmware_calls_start, %ebx
        mov     %eax, %ecx
        mov     %ebx, %edx
        jmp     success

e801:   mov     %cs:size_below_16m - firmware_calls_start, %ax
        mov     %cs:size_above_16m - firmware_calls_start, %bx
        mov     %ax, %cx
        mov     %bx, %dx
        jmp     success

size88: mov     %cs:size_88 - firmware_calls_start, %ax
        // The caller's flags lie behind the return address.
success:
        push    %bp
        mov     %sp, %bp
        andb    $0xFE, 6(%bp)
        pop     %bp
        iret

unsupported:
        mov     $0x86, %ah
        push    %bp
        mov     %sp, %bp
        orb     $1, 6(%bp)
        pop     %bp
        iret
        .balign 4
firmware_calls_data:
old_vector:
        .short  0, 0                    // offset, segment
size_below_16m:
        .short  0                       // KB from 1 MB on
size_above_16m:
        .short  0                       // units of 64 KB from 16 MB on
size_88:
        .short  0                       // KB from 1 MB on
entry_count:
        .short  0                       // and behind it the entries, 20 bytes each
firmware_calls_end:
        .code64
        .section .note.GNU-stack, "", @progbits
