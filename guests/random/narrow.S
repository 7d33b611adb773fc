# run_narrow(NarrowScript* script): leaves long mode, runs the script's VMX instructions in 32-bit code under PAE or 32-bit
# paging, and comes back. VMX operation is left before (CR0.PG is fixed in it) and is left again at the end. An exception
# in the script's code ends that code, anywhere else the machine; an NMI finds a gate in every mode.

.set script_cr3, 0x00
.set script_cr4, 0x04
.set script_return_cr3, 0x08
.set script_return_cr4, 0x0C
.set script_vmxon, 0x10
.set script_vmcs, 0x14
.set script_count, 0x18
.set script_flags, 0x1C
.set script_pdpte, 0x20
.set script_code, 0x24
.set script_vector, 0x28
.set script_error, 0x2C
.set script_offset, 0x30
.set script_entries, 0x34
.set script_exits, 0x38
.set script_entry_flags, 0x3C
.set script_state, 0x40                 # CR0, CR3, CR4, EFER, DR7, TR, CS, SS, DS, ES, FS, GS
.set script_registers, 0x70             # EAX, EBX, ECX, EDX, ESI, EDI, EBP
.set script_exit, 0x8C                  # each: where L2 goes on, reason, qualification, RIP
.set script_moves, 0xCC                 # each: encoding, value, what VMREAD gave, flags

.set field_exit_reason, 0x4402
.set field_interruptibility, 0x4824
.set field_qualification, 0x6400
.set field_guest_rip, 0x681E
.set field_pending_debug, 0x6822
.set field_host_rsp, 0x6C14

.section .text
.balign 16
.globl run_narrow
.code64
run_narrow:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, narrow_stack(%rip)
    sidt usual_idt(%rip)
    lidt narrow_idt(%rip)
    pushq $0x28
    pushq $narrow_code32
    lretq

.code32
narrow_code32:
    movl $0x10, %eax
    movl %eax, %ss
    movl %eax, %ds
    movl %eax, %es
    movl %cr0, %eax
    andl $0x7FFFFFFF, %eax
    movl %eax, %cr0
    movl $0xC0000080, %ecx
    rdmsr
    andl $~0x100, %eax
    wrmsr
    movl script_cr4(%edi), %eax
    movl %eax, %cr4
    movl script_cr3(%edi), %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0

    # The processor has loaded the PDPTEs: what becomes of them in memory has no effect any more.
    movl script_pdpte(%edi), %eax
    testl %eax, %eax
    jz 1f
    movl $0, 8(%eax)
1:  movl script_vmxon(%edi), %eax
    vmxon (%eax)
    movl script_vmcs(%edi), %eax
    vmptrld (%eax)
    pushfl
    popl script_flags(%edi)
    movl script_count(%edi), %ecx
    leal script_moves(%edi), %esi
2:  movl 0(%esi), %edx
    movl 4(%esi), %eax
    vmwrite %eax, %edx
    pushfl
    popl 12(%esi)
    vmread %edx, 8(%esi)
    addl $16, %esi
    loop 2b

    movl %edi, narrow_script
    movl script_code(%edi), %eax
    testl %eax, %eax
    jz narrow_enter
    movl %esp, narrow_recovery
    call *%eax
narrow_code_end:
    movl %ss, %eax
    movl %eax, %ds
    movl %eax, %es
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, narrow_recovery
    movl narrow_script, %edi

narrow_enter:
    cmpl $0, script_entries(%edi)
    je narrow_leave
    movl script_vmcs(%edi), %eax
    vmptrld (%eax)
    movl $field_host_rsp, %eax
    vmwrite %esp, %eax
    call narrow_no_registers
    vmlaunch
    jmp narrow_not_entered

.balign 16
.globl narrow_exit
narrow_exit:
    movl %edi, narrow_edi
    movl narrow_script, %edi
    movl %eax, script_registers + 0x00(%edi)
    movl %ebx, script_registers + 0x04(%edi)
    movl %ecx, script_registers + 0x08(%edi)
    movl %edx, script_registers + 0x0C(%edi)
    movl %esi, script_registers + 0x10(%edi)
    movl narrow_edi, %eax
    movl %eax, script_registers + 0x14(%edi)
    movl %ebp, script_registers + 0x18(%edi)
    movl %cr0, %eax
    movl %eax, script_state + 0x00(%edi)
    movl %cr3, %eax
    movl %eax, script_state + 0x04(%edi)
    movl %cr4, %eax
    movl %eax, script_state + 0x08(%edi)
    movl $0xC0000080, %ecx
    rdmsr
    movl %eax, script_state + 0x0C(%edi)
    movl %dr7, %eax
    movl %eax, script_state + 0x10(%edi)
    str %eax
    movl %eax, script_state + 0x14(%edi)
    movw %cs, script_state + 0x18(%edi)
    movw %ss, script_state + 0x1C(%edi)
    movw %ds, script_state + 0x20(%edi)
    movw %es, script_state + 0x24(%edi)
    movw %fs, script_state + 0x28(%edi)
    movw %gs, script_state + 0x2C(%edi)
    movl script_exits(%edi), %ebx
    shll $4, %ebx
    leal script_exit(%edi, %ebx), %ebx
    incl script_exits(%edi)
    movl $field_exit_reason, %edx
    vmread %edx, 4(%ebx)
    movl $field_qualification, %edx
    vmread %edx, 8(%ebx)
    movl $field_guest_rip, %edx
    vmread %edx, 12(%ebx)
    # A failed entry, a triple fault, or a loop that the timer ended: no more.
    movl 4(%ebx), %eax
    testl %eax, %eax
    js narrow_leave
    cmpl $2, %eax
    je narrow_leave
    cmpl $52, %eax
    je narrow_leave
    movl script_exits(%edi), %eax
    cmpl script_entries(%edi), %eax
    jae narrow_leave
    vmwrite (%ebx), %edx
    xorl %eax, %eax
    movl $field_interruptibility, %edx
    vmwrite %eax, %edx
    movl $field_pending_debug, %edx
    vmwrite %eax, %edx
    call narrow_no_registers
    vmresume
narrow_not_entered:
    movl narrow_script, %edi
    pushfl
    popl script_entry_flags(%edi)

narrow_leave:
    movl script_vmcs(%edi), %eax
    vmclear (%eax)
    vmxoff

    movl %cr0, %eax
    andl $0x7FFFFFFF, %eax
    movl %eax, %cr0
    movl script_return_cr4(%edi), %eax
    movl %eax, %cr4
    movl script_return_cr3(%edi), %eax
    movl %eax, %cr3
    movl $0xC0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    ljmp $0x08, $narrow_code64

.code64
narrow_code64:
    movq narrow_stack(%rip), %rsp
    lidt usual_idt(%rip)
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

.code32
.globl narrow_nmi
narrow_nmi:
    incl narrow_nmis
    iret

narrow_no_registers:
    xorl %eax, %eax
    xorl %ebx, %ebx
    xorl %ecx, %ecx
    xorl %edx, %edx
    xorl %esi, %esi
    xorl %edi, %edi
    xorl %ebp, %ebp
    ret

.globl narrow_undefined, narrow_not_present, narrow_stack_fault, narrow_protection, narrow_page_fault
narrow_undefined:
    pushl $0
    pushl $6
    jmp narrow_fault
narrow_not_present:
    pushl $11
    jmp narrow_fault
narrow_stack_fault:
    pushl $12
    jmp narrow_fault
narrow_protection:
    pushl $13
    jmp narrow_fault
narrow_page_fault:
    pushl $14
narrow_fault:
    movl %ss, %eax
    movl %eax, %ds
    movl narrow_recovery, %ebx
    testl %ebx, %ebx
    jz 1f
    movl narrow_script, %edi
    popl script_vector(%edi)
    popl script_error(%edi)
    popl %eax
    subl script_code(%edi), %eax
    movl %eax, script_offset(%edi)
    movl %ebx, %esp
    jmp narrow_code_end
    # No gate has this one's vector.
1:  int3
    jmp 1b

# The gate of vector 2 is at 10H in 32-bit mode, at 20H in IA-32e mode. step_narrow.cpp fills them.
.section .data
narrow_idt:
    .word 15 * 8 - 1
    .quad narrow_gates

.section .bss
.balign 16
narrow_stack:
    .skip 16
usual_idt:
    .skip 16
.globl narrow_gates
narrow_gates:
    .skip 15 * 8
narrow_script:
    .skip 4
narrow_recovery:
    .skip 4
narrow_edi:
    .skip 4
    .balign 8
.globl narrow_nmis
narrow_nmis:
    .skip 8

.section .note.GNU-stack, "", @progbits
