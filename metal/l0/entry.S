// VM entry and VM exit. HOST_RSP of every VMCS points just past ExitFrame::registers, so that the exit saves the guest's
// registers into the frame by pushing them; ExitFrame::stack_top follows the registers (asserted in metal/l0/cpu.hpp).

#include "metal/ground/registers.inc"

        .text
        .globl vm_exit_entry, vm_first_entry
        .globl enter_guest, entry_tests_flag, entry_resumes, entry_launches, entry_looks_again, entry_has_looked
        .balign 64
vm_exit_entry:
        push_registers
        movq %rsp, %rdi                 // ExitFrame&
        movq 128(%rdi), %rsp            // ExitFrame::stack_top
        call *136(%rdi)                 // ExitFrame::handler
        // falls through
enter_guest:                            // al: 0 VMRESUME, 1 VMLAUNCH; the frame is found at the stack's top
        // The last look. From here to the entry an NMI or a machine check makes L0 look again (metal/ground/entry_window.hpp), by the address that it
        // interrupts: nothing here writes to the frame, and behind TESTB the zero flag tells what al was.
        cmpb $0, %gs:8                  // ProcessorLocal::nmi_state
        jne 3f
4:      movq (%rsp), %rsp               // the frame, whose address lies there
entry_tests_flag:
        testb %al, %al
        pop_registers
        jnz entry_launches
entry_resumes:
        vmresume
        jmp 2f
entry_launches:
        vmlaunch
2:      // VMfail: RSP is just past the registers, which are unchanged.
        push_registers
        movq %rsp, %rdi
        movq 128(%rdi), %rsp
        call handle_failed_entry
        jmp enter_guest

3:      // An NMI or a machine check came while L0 ran, or another processor asks for something: it may change which guest is entered, and how.
        movq (%rsp), %rdi
        movzbl %al, %esi
        call look_before_entry
entry_looks_again:
        testb $10, %gs:8                // nmi_state::came, machine_check_came: one that came meanwhile
        jnz 3b
        jmp 4b
entry_has_looked:

// void vm_first_entry(ExitFrame&, bool launch): enters the guest for the first time and never returns.
vm_first_entry:
        movq 128(%rdi), %rsp
        movl %esi, %eax
        jmp enter_guest

        .section .note.GNU-stack, "", @progbits
