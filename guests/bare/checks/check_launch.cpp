// When VMLAUNCH and VMRESUME refuse at once, and the VMCALL and VMFUNC of root operation. SDM 3C 27.1, 31.3.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/rule.hpp"

namespace flatback::guests {
namespace {

// VMLAUNCH right behind a MOV to SS, which blocks events for one instruction.
Outcome try_vmlaunch_behind_mov_ss() {
    std::uint64_t flags;
    std::uint32_t selector;
    last_fault.taken = false;
    asm volatile(
        "movl %%ss, %[selector]\n\t"
        "pushq %[preset]\n\tpopfq\n\t"
        "movl %[selector], %%ss\n\t"
        "vmlaunch\n\t"
        "pushfq\n\tpopq %[flags]\n"
        : [flags] "=r"(flags), [selector] "=&r"(selector)
        : [preset] "r"(arithmetic_flags | 2)
        : "cc", "memory");
    return outcome_of(flags);
}

void check_launch_state() {
    const RuleScope rule{{"3C 27.1", "VMLAUNCH takes a clear VMCS, VMRESUME a launched one"}};
    L2 l2{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
    {
        Check check{"vmresume-of-a-clear-vmcs-fails-with-error-5"};
        check.outcome("VMRESUME", try_enter(false), vm_fail_valid(5));
    }
    Check{"vmlaunch-blocked-by-mov-ss-fails-with-error-26"}.outcome("VMLAUNCH", try_vmlaunch_behind_mov_ss(),
                                                                    vm_fail_valid(26));
    {
        Check check{"vmlaunch-of-a-clear-vmcs-enters-l2"};
        check.runs_to(l2, reason::vmcall);
        check.equal("guest RIP", read(field::guest_rip), physical(l2_vmcall_loop));
        check.equal("instruction length", read(field::vm_exit_instruction_length), 3);
        check.equal("qualification", read(field::exit_qualification), 0);
    }
    Check{"vmlaunch-of-a-launched-vmcs-fails-with-error-4"}.outcome("VMLAUNCH", try_enter(true),
                                                                    vm_fail_valid(4));
    Check{"vmresume-of-a-launched-vmcs-enters-l2"}.runs_to(l2, reason::vmcall);
    {
        Check check{"vmclear-makes-a-launched-vmcs-clear-again"};
        const std::uint64_t address = l2.vmcs_address();
        check.outcome("VMCLEAR", try_vmclear(&address), vm_succeed);
        check.outcome("VMRESUME without a current VMCS", try_enter(false), vm_fail_invalid);
        check.outcome("VMLAUNCH without a current VMCS", try_enter(true), vm_fail_invalid);
        check.outcome("VMPTRLD", try_vmptrld(&address), vm_succeed);
        check.outcome("VMRESUME", try_enter(false), vm_fail_valid(5));
        check.outcome("VMLAUNCH", try_enter(true), vm_exit);
        check.equal("exit reason", read(field::exit_reason), reason::vmcall);
    }
}

void check_root_calls() {
    const RuleScope rule{
        {"3C 31.3 VMCALL, VMFUNC", "in root operation VMCALL is error 1 and VMFUNC undefined"}};
    {
        Check check{"vmfunc-in-root-operation-is-undefined"};
        check.outcome("VMFUNC", try_vmfunc(), fault(vector_invalid_opcode));
    }
    // Bochs knows no VMCALL in root operation: it reports a panic and goes on.
    if (directly_on_bochs()) {
        report_text("bare_l1.known_deviation", "vmcall-in-root-operation-fails-with-error-1: not emulated");
        return;
    }
    {
        const L2 l2{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
        Check check{"vmcall-in-root-operation-fails-with-error-1"};
        check.outcome("VMCALL", try_vmcall(), vm_fail_valid(1));
    }
    Check check{"vmcall-in-root-operation-without-a-current-vmcs-fails-invalid"};
    check.outcome("VMCALL", try_vmcall(), vm_fail_invalid);
}

}  // namespace

void check_launch() {
    const PageScope scope;
    check_launch_state();
    check_root_calls();
}

}  // namespace flatback::guests
