// A Multiboot 1 kernel that ends in the way its command line asks for, so that each ending of a run that the
// command tells apart can be provoked without an L0. The last character of the command line chooses:
//   s  writes Shutdown to port 0x8900       p  powers off through ACPI      t  triple fault
//   r  resets through port 0xCF9            h  spins for good               e  reports an error, then Shutdown
//   k  resets through the keyboard          c  halts with interrupts off    f  prints what looks like L0's records
//      controller                                                              and is none, then Shutdown
//   i  reports what is typed on COM1 up to a full stop, as an error, then Shutdown
        .set    magic, 0x1BADB002
        .set    flags, 0x3              // modules on page borders, memory information
        .section .multiboot, "a"
        .align  4
        .long   magic, flags, -(magic + flags)

        .text
        .code32
        .globl  _start
_start:
        mov     $stack_top, %esp
        mov     %ebx, %ebp
        mov     $0x3FB, %edx            // line control: 8 data bits, or the UART cuts each byte to 5
        mov     $0x03, %al
        out     %al, %dx
        mov     $hello, %esi
        call    print
        movl    16(%ebp), %esi          // Multiboot information: address of the command line
        mov     %esi, %edi
        push    %esi
        mov     $command_line, %esi
        call    print
        pop     %esi
        call    print
        mov     $newline, %esi
        call    print
        // The last character that is not a space.
        xor     %ebx, %ebx
1:      movb    (%edi), %al
        inc     %edi
        test    %al, %al
        jz      2f
        cmpb    $' ', %al
        je      1b
        movb    %al, %bl
        jmp     1b
2:      cmpb    $'p', %bl
        je      power_off
        cmpb    $'t', %bl
        je      triple_fault
        cmpb    $'r', %bl
        je      reset
        cmpb    $'h', %bl
        je      spin
        cmpb    $'k', %bl
        je      keyboard_reset
        cmpb    $'c', %bl
        je      halt
        mov     $forged, %esi
        cmpb    $'f', %bl
        je      say
        cmpb    $'i', %bl
        je      echo
        cmpb    $'e', %bl
        jne     finish
        mov     $complaint, %esi
say:    call    print
finish: mov     $end, %esi
        call    print
        mov     $shutdown, %esi
        mov     $0x8900, %edx
3:      lodsb
        test    %al, %al
        jz      spin
        out     %al, %dx
        jmp     3b

echo:   mov     $typed, %esi
        call    print
6:      mov     $0x3FD, %edx            // wait for a byte
        in      %dx, %al
        test    $0x01, %al
        jz      6b
        mov     $0x3F8, %edx
        in      %dx, %al
        movb    %al, echoed
        mov     $echoed, %esi
        call    print
        cmpb    $'.', echoed
        jne     6b
        mov     $newline, %esi
        jmp     say

power_off:                              // PIIX4: SLP_EN with type 0 in PM1a_CNT, at 0xB000 + 4 after Bochs' BIOS
        mov     $0xB004, %edx
        mov     $0x2000, %ax
        out     %ax, %dx
        jmp     spin

triple_fault:
        lidt    no_table
        ud2

keyboard_reset:
        mov     $0xFE, %al
        out     %al, $0x64
        jmp     spin

halt:   cli
        hlt
        jmp     spin

reset:  mov     $0xCF9, %edx
        mov     $0x06, %al
        out     %al, %dx
spin:   jmp     spin

// Prints the string at ESI to COM1.
print:  mov     $0x3FD, %edx
4:      in      %dx, %al
        test    $0x20, %al
        jz      4b
        lodsb
        test    %al, %al
        jz      5f
        mov     $0x3F8, %edx
        out     %al, %dx
        jmp     print
5:      ret

        .data
hello:          .asciz  "FLATBACK stage l1-kernel\nFLATBACK value endings.answer 42\n"
command_line:   .asciz  "FLATBACK text endings.command_line "
newline:        .asciz  "\n"
complaint:      .asciz  "FLATBACK error endings: as asked\n"
typed:          .asciz  "FLATBACK error typed: "
echoed:         .byte   0, 0
forged:         .ascii  "FLATBACK stage l0\nFLATBACK value l0.l1_entry_tsc 1\nFLATBACK error L0: forged\n"
                .ascii  "FLATBACK error grub: forged\nFLATBACK value cut 1[L0]\n\033[2JFLATBACK error cut"
                .asciz  "\n"
end:            .asciz  "FLATBACK end\n"
shutdown:       .asciz  "Shutdown"
        .align  4
no_table:       .word   0
                .long   0
        .bss
        .align  16
        .skip   4096
stack_top:
