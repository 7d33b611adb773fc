// Exceptions of L2: exits by the exception bitmap, or L2's own IDT. SDM 3C 26.2, 28.2.2.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_idt.hpp"
#include "guests/bare/l1/linear_window.hpp"
#include "guests/bare/l1/rule.hpp"

extern "C" {
extern char l2_undefined[];
extern char l2_breakpoint[];
extern char l2_write_memory[];
extern char l2_read_cr2[];
}

asm(R"(
.pushsection .text
.globl l2_undefined, l2_breakpoint, l2_write_memory, l2_read_cr2
l2_undefined:
    ud2
l2_breakpoint:
    int3
    vmcall
l2_write_memory:
    movq %rbx, (%rdi)
    vmcall
l2_read_cr2:
    movq %cr2, %rax
    vmcall
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint64_t not_canonical = 0x8000'0000'0000;
constexpr std::uint32_t hardware_exception = 0x80000300;
constexpr std::uint32_t with_error_code = 0x800;

void start(const char* program) {
    write(field::guest_rip, physical(program));
}

void intercept(std::uint32_t vectors) {
    write(field::exception_bitmap, vectors);
}

void check_intercepted(L2& l2) {
    const RuleScope rule{{"3C 26.2", "an exception exits where its bit of the exception bitmap is 1"}};
    {
        Check check{"an-intercepted-undefined-opcode-exits"};
        intercept(1U << vector_invalid_opcode);
        start(l2_undefined);
        check.runs_to(l2, reason::exception_or_nmi);
        check.equal("information", read(field::vm_exit_interruption_information), hardware_exception | 6);
        check.equal("RIP", read(field::guest_rip), physical(l2_undefined));
    }
    {
        // SDM 3C 28.3.3: RF is saved as it would have been pushed, which is 1 for a fault.
        Check check{"a-fault-that-exits-saves-rflags-with-rf-set"};
        check.equal("RF", read(field::guest_rflags) & 1U << 16, 1U << 16);
        check.known({"RF is saved clear", Deviation::Seen::beneath});
    }
    write(field::guest_rflags, 2);
    {
        Check check{"an-intercepted-breakpoint-exits-with-its-length"};
        intercept(1U << 3);
        start(l2_breakpoint);
        check.runs_to(l2, reason::exception_or_nmi);
        check.equal("information", read(field::vm_exit_interruption_information), 0x80000603);
        check.equal("length", read(field::vm_exit_instruction_length), 1);
        check.equal("RIP", read(field::guest_rip), physical(l2_breakpoint));
    }
    write(field::guest_rflags, 2);
    {
        Check check{"an-intercepted-general-protection-fault-exits-with-its-error-code"};
        intercept(1U << vector_general_protection);
        start(l2_write_memory);
        l2.registers.rdi = not_canonical;
        check.runs_to(l2, reason::exception_or_nmi);
        check.equal("information", read(field::vm_exit_interruption_information),
                    hardware_exception | with_error_code | 13);
        check.equal("error code", read(field::vm_exit_interruption_error_code), 0);
    }
    write(field::guest_rflags, 2);
}

void check_page_faults(L2& l2) {
    const RuleScope rule{{"3C 26.2", "a page fault exits by bitmap, error-code mask and match"}};
    map_linear(0, 0);
    {
        Check check{"an-intercepted-page-fault-exits-with-its-address-and-leaves-cr2-alone"};
        intercept(1U << vector_page_fault);
        asm volatile("movq %0, %%cr2" : : "r"(0x1234ULL));
        start(l2_write_memory);
        l2.registers.rdi = linear_window + 0x128;
        check.runs_to(l2, reason::exception_or_nmi);
        check.equal("information", read(field::vm_exit_interruption_information),
                    hardware_exception | with_error_code | 14);
        check.equal("error code", read(field::vm_exit_interruption_error_code), 2);
        check.equal("qualification", read(field::exit_qualification), linear_window + 0x128);
        check.equal("CR2", read_cr2(), 0x1234);
    }
    write(field::guest_rflags, 2);
    {
        // SDM 3C 26.2: a page fault whose masked error code differs from the match inverts the bitmap's bit.
        Check check{"page-fault-mask-and-match-choose-which-page-faults-exit"};
        write(field::page_fault_error_code_mask, 2);
        write(field::page_fault_error_code_match, 0);
        start(l2_write_memory);
        check.runs_to(l2, reason::vmcall);
        check.equal("vector that L2's IDT took", l2.registers.rax, 14);
        write(field::page_fault_error_code_match, 2);
        start(l2_write_memory);
        check.runs_to(l2, reason::exception_or_nmi);
        intercept(0);
        write(field::page_fault_error_code_match, 0);
        start(l2_write_memory);
        check.runs_to(l2, reason::exception_or_nmi);
        write(field::page_fault_error_code_mask, 0);
    }
    write(field::guest_rflags, 2);
}

void check_own_idt(L2& l2, std::uint64_t stack_top) {
    const RuleScope rule{{"3C 26.2", "an exception that does not exit is delivered by the guest's IDT"}};
    intercept(0);
    {
        Check check{"a-page-fault-that-is-not-intercepted-goes-through-l2s-idt-with-cr2"};
        write(field::guest_rsp, stack_top);
        start(l2_write_memory);
        check.runs_to(l2, reason::vmcall);
        const L2Frame frame = l2_frame(l2);
        check.equal("vector", frame.vector, 14);
        check.equal("error code", frame.error_code, 2);
        check.equal("RIP", frame.rip, physical(l2_write_memory));
        check.equal("CS", frame.cs, 0x08);
        check.equal("RSP", frame.rsp, stack_top);
        start(l2_read_cr2);
        check.runs_to(l2, reason::vmcall);
        check.equal("CR2 as L2 reads it", l2.registers.rax, linear_window + 0x128);
    }
    {
        Check check{"l2-returns-from-its-own-handler-and-goes-on"};
        Page* const page = allocate_page();
        write(field::guest_rsp, stack_top);
        start(l2_write_memory);
        check.runs_to(l2, reason::vmcall);
        map_linear(0, physical(page) | linear_page::present | linear_page::writable);
        l2.registers.rbx = 0xFEED;
        return_from_l2_event(l2_frame(l2));
        check.runs_to(l2, reason::vmcall);
        check.equal("RIP", read(field::guest_rip), physical(l2_write_memory) + 3);
        check.equal("memory", page->words[0x128 / 8], 0xFEED);
    }
    {
        Check check{"an-exception-without-a-usable-idt-is-a-triple-fault-exit"};
        write(field::guest_idtr_limit, 0);
        start(l2_undefined);
        check.runs_to(l2, reason::triple_fault);
        check.equal("qualification", read(field::exit_qualification), 0);
    }
}

}  // namespace

void check_exceptions() {
    const PageScope scope;
    const std::uint64_t stack_top = physical(allocate_page()) + page_size - 64;
    L2 l2{usual_plan(0, usual_ept().pointer())};
    use_l2_idt(stack_top);
    check_intercepted(l2);
    check_page_faults(l2);
    check_own_idt(l2, stack_top);
}

}  // namespace flatback::guests
