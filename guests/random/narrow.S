# run_narrow(NarrowScript* script): leaves long mode, runs the script's VMX instructions in 32-bit code under PAE or 32-bit
# paging, and comes back. VMX operation is left before (CR0.PG is fixed in it) and is left again at the end. An exception
# there ends the machine, so scripts hold nothing that must fault; an NMI finds a gate in every mode.

.set script_cr3, 0x00
.set script_cr4, 0x04
.set script_return_cr3, 0x08
.set script_return_cr4, 0x0C
.set script_vmxon, 0x10
.set script_vmcs, 0x14
.set script_count, 0x18
.set script_flags, 0x1C
.set script_pdpte, 0x20
.set script_moves, 0x24                 # each: encoding, value, what VMREAD gave, flags

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

# Of vector 2 alone: its gate is at 10H in 32-bit mode, at 20H in IA-32e mode. step_narrow.cpp fills them.
.section .data
narrow_idt:
    .word 0x2F
    .quad narrow_gates

.section .bss
.balign 16
narrow_stack:
    .skip 16
usual_idt:
    .skip 16
.globl narrow_gates
narrow_gates:
    .skip 0x30
.globl narrow_nmis
narrow_nmis:
    .skip 8

.section .note.GNU-stack, "", @progbits
