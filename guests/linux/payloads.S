// The L2 payloads: position-independent 64-bit code without a stack, copied to guest memory by the VMM.
// See payload_abi.h for the registers at entry. Each one warms up, reports READY, runs its measured
// phase and reports DONE; the payloads that the VMM itself times (port I/O, HLT) never end.

#include "guests/linux/payload_abi.h"

.macro report port, value
    mov \value, %eax
    out %eax, $\port
.endm

// RAX = the time-stamp counter; clobbers RDX.
.macro read_ticks
    rdtsc
    shl $32, %rdx
    or %rdx, %rax
.endm

// Stores the ticks since R11 as the next sample.
.macro store_sample
    read_ticks
    sub %r11, %rax
    mov %rax, (%rsi)
    add $8, %rsi
.endm

.macro payload name
    .globl flatback_payload_\name
    .hidden flatback_payload_\name
flatback_payload_\name:
.endm

.macro payload_end name
    .globl flatback_payload_\name\()_end
    .hidden flatback_payload_\name\()_end
flatback_payload_\name\()_end:
.endm

.section .rodata.payloads, "a"
.code64

// Sum of all four registers of the leaf the VMM defined. One CPUID of warm-up, not part of the sum.
payload cpuid
    mov $FLATBACK_CPUID_LEAF, %eax
    cpuid
    report FLATBACK_PORT_READY, $0
1:  read_ticks
    mov %rax, %r11
    mov %r9d, %ebp
2:  mov $FLATBACK_CPUID_LEAF, %eax
    cpuid
    add %rax, %r10
    add %rbx, %r10
    add %rcx, %r10
    add %rdx, %r10
    dec %ebp
    jnz 2b
    store_sample
    dec %r8d
    jnz 1b
    mov %r10, (%rdi)
    report FLATBACK_PORT_DONE, $0
    hlt
payload_end cpuid

// A counter to the port, and to the mailbox, for ever.
payload port_io
1:  inc %r10
    mov %r10, (%rdi)
    mov %r10d, %eax
    out %eax, $FLATBACK_PORT_OPERATION
    jmp 1b
payload_end port_io

// A counter to the mailbox before each HLT, for ever.
payload halt
1:  inc %r10
    mov %r10, (%rdi)
    hlt
    jmp 1b
payload_end halt

// First touch of each page, timed one by one; then the same pages again, timed a pass at a time.
// The mailbox gets the sum of everything read.
payload touch
    mov (%rsi), %rax
    mov %rax, (%rsi)
    report FLATBACK_PORT_READY, $0
    mov %r15, %rbx
    mov %r9d, %ebp
1:  read_ticks
    mov %rax, %r11
    mov $FLATBACK_TOUCH_ADDEND, %ecx
    xadd %rcx, (%rbx)
    add %rcx, %r10
    store_sample
    add $4096, %rbx
    dec %ebp
    jnz 1b
    report FLATBACK_PORT_DONE, $0

    report FLATBACK_PORT_READY, $1
2:  read_ticks
    mov %rax, %r11
    mov %r15, %rbx
    mov %r9d, %ebp
3:  mov $1, %ecx
    xadd %rcx, (%rbx)
    add %rcx, %r10
    add $4096, %rbx
    dec %ebp
    jnz 3b
    store_sample
    dec %r8d
    jnz 2b
    mov %r10, (%rdi)
    report FLATBACK_PORT_DONE, $1
    hlt
payload_end touch

// MOV CR3 to the second root and back, reading the window under each.
payload mov_cr3
    mov %r13, %cr3
    mov (%r14), %rax
    mov %r12, %cr3
    mov (%r14), %rax
    report FLATBACK_PORT_READY, $0
1:  read_ticks
    mov %rax, %r11
    mov %r9d, %ebp
2:  mov %r13, %cr3
    add (%r14), %r10
    mov %r12, %cr3
    add (%r14), %r10
    dec %ebp
    jnz 2b
    store_sample
    dec %r8d
    jnz 1b
    mov %r10, (%rdi)
    report FLATBACK_PORT_DONE, $0
    hlt
payload_end mov_cr3

// One turn: the window's value (it differs by vCPU) added to the mailbox and reported. For ever.
payload turns
1:  add (%r14), %r10
    mov %r10, (%rdi)
    mov %r10d, %eax
    out %eax, $FLATBACK_PORT_OPERATION
    jmp 1b
payload_end turns

// Sum of what a hypercall returns. As with CPUID, one of warm-up.
payload vmcall
    mov $FLATBACK_VMCALL_NUMBER, %eax
    vmcall
    report FLATBACK_PORT_READY, $0
1:  read_ticks
    mov %rax, %r11
    mov %r9d, %ebp
2:  mov $FLATBACK_VMCALL_NUMBER, %eax
    vmcall
    add %rax, %r10
    dec %ebp
    jnz 2b
    store_sample
    dec %r8d
    jnz 1b
    mov %r10, (%rdi)
    report FLATBACK_PORT_DONE, $0
    hlt
payload_end vmcall

// Sum of what the MSR holds.
payload rdmsr
    mov $FLATBACK_RDMSR_NUMBER, %ecx
    rdmsr
    report FLATBACK_PORT_READY, $0
1:  read_ticks
    mov %rax, %r11
    mov %r9d, %ebp
2:  mov $FLATBACK_RDMSR_NUMBER, %ecx
    rdmsr
    shl $32, %rdx
    add %rax, %r10
    add %rdx, %r10
    dec %ebp
    jnz 2b
    store_sample
    dec %r8d
    jnz 1b
    mov %r10, (%rdi)
    report FLATBACK_PORT_DONE, $0
    hlt
payload_end rdmsr

// A counter to the port whose writes only signal an eventfd.
payload event
    xor %eax, %eax
    out %eax, $FLATBACK_PORT_EVENT
    report FLATBACK_PORT_READY, $0
1:  read_ticks
    mov %rax, %r11
    mov %r9d, %ebp
2:  inc %r10
    mov %r10d, %eax
    out %eax, $FLATBACK_PORT_EVENT
    dec %ebp
    jnz 2b
    store_sample
    dec %r8d
    jnz 1b
    mov %r10, (%rdi)
    report FLATBACK_PORT_DONE, $0
    hlt
payload_end event

// Reads the device, adds the value to the mailbox. For ever.
payload mmio
1:  mov FLATBACK_DEVICE_OFFSET(%r14), %eax
    add %rax, %r10
    mov %r10, (%rdi)
    jmp 1b
payload_end mmio

.section .note.GNU-stack, "", @progbits
