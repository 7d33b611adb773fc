// External interrupts and NMIs that arrive while L2 runs. SDM 3C 26.2, 28.2.2, 31.1 "VM-exit controls".

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/interrupts.hpp"
#include "guests/bare/l1/l2_idt.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/rule.hpp"

extern "C" {
extern char l2_interrupt_in_sti_hlt[];
extern char l2_send_nmi[];
extern char l2_enable_interrupts[];
}

asm(R"(
.pushsection .text
.globl l2_interrupt_in_sti_hlt, l2_send_nmi, l2_enable_interrupts
l2_interrupt_in_sti_hlt:
    movl $0x4050, (%rdi)
    sti
    hlt
    nop
    vmcall
l2_send_nmi:
    movl $0x4400, (%rdi)
    nop
    nop
    vmcall
l2_enable_interrupts:
    cpuid
    sti
    nop
    nop
    vmcall
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint8_t vector = 0x50;
constexpr std::uint64_t interrupts_on = 0x202;
constexpr std::uint64_t interrupt_command = 0xFEE00300;

// One instruction's window for interrupts in L1.
void let_interrupts_in() {
    asm volatile("sti; nop; nop; cli" : : : "memory");
}

VmcsPlan plan_with(std::uint32_t pin_controls, std::uint32_t exit_controls) {
    VmcsPlan plan = usual_plan(physical(l2_cpuid_loop), usual_ept().pointer());
    plan.pin |= pin_controls;
    plan.exit |= exit_controls;
    return plan;
}

void check_without_acknowledge() {
    const RuleScope rule{{"3C 26.2", "with external-interrupt exiting an interrupt exits and stays pending"}};
    L2 l2{plan_with(pin::external_interrupt_exiting, 0)};
    write(field::guest_rflags, interrupts_on);
    const std::uint64_t before = interrupt_count[vector];
    send_self_interrupt(vector);
    Check check{"an-external-interrupt-exits-and-stays-pending-without-acknowledge-on-exit"};
    check.runs_to(l2, reason::external_interrupt);
    check.equal("interruption information", read(field::vm_exit_interruption_information) >> 31, 0);
    check.equal("RIP: before L2's first instruction", read(field::guest_rip), physical(l2_cpuid_loop));
    check.holds("requested", interrupt_requested(vector));
    check.holds("not in service", !interrupt_in_service(vector));
    let_interrupts_in();
    check.equal("interrupts that L1's IDT took", interrupt_count[vector] - before, 1);
    check.runs_to(l2, reason::cpuid);
}

void check_with_acknowledge() {
    const RuleScope rule{{"3C 28.2.2", "with acknowledge on exit the vector is recorded"}};
    L2 l2{plan_with(pin::external_interrupt_exiting, exit_control::acknowledge_interrupt_on_exit)};
    write(field::guest_rflags, interrupts_on);
    const std::uint64_t before = interrupt_count[vector];
    send_self_interrupt(vector);
    Check check{"an-external-interrupt-exits-acknowledged-with-its-vector"};
    check.runs_to(l2, reason::external_interrupt);
    check.equal("interruption information", read(field::vm_exit_interruption_information),
                0x80000000 | vector);
    check.holds("not requested", !interrupt_requested(vector));
    check.holds("in service", interrupt_in_service(vector));
    end_of_interrupt();
    let_interrupts_in();
    check.equal("interrupts that L1's IDT took", interrupt_count[vector] - before, 0);
    check.runs_to(l2, reason::cpuid);
}

void check_masked_in_l2() {
    const RuleScope rule{{"3C 26.2", "external-interrupt exiting does not ask RFLAGS.IF"}};
    L2 l2{plan_with(pin::external_interrupt_exiting, 0)};
    send_self_interrupt(vector);
    {
        Check check{"an-external-interrupt-exits-although-l2-has-interrupts-off"};
        check.runs_to(l2, reason::external_interrupt);
        check.known({"a guest entered with interrupts off takes no such exit", Deviation::Seen::beneath});
    }
    let_interrupts_in();
}

// Without external-interrupt exiting the interrupt is L2's own.
void check_delivered_to_l2() {
    const RuleScope rule{{"3C 26.2", "without external-interrupt exiting the guest takes the interrupt"}};
    const std::uint64_t stack_top = physical(allocate_page()) + page_size - 64;
    L2 l2{plan_with(0, 0)};
    use_l2_idt(stack_top);
    write(field::guest_rip, physical(l2_enable_interrupts));
    send_self_interrupt(vector);
    Check check{"without-external-interrupt-exiting-the-interrupt-goes-through-l2s-idt"};
    check.runs_past(l2, reason::cpuid);
    check.runs_to(l2, reason::vmcall);
    const L2Frame frame = l2_frame(l2);
    check.equal("vector", frame.vector, vector);
    check.equal("pushed RIP: behind the instruction that follows STI", frame.rip,
                physical(l2_enable_interrupts) + 4);
    check.holds("in service", interrupt_in_service(vector));
    end_of_interrupt();
    return_from_l2_event(frame);
    check.runs_to(l2, reason::vmcall);
    check.equal("RIP", read(field::guest_rip), physical(l2_enable_interrupts) + 5);
}

void check_in_halt() {
    const RuleScope rule{{"3C 26.2", "an interrupt exits out of the HLT state"}};
    VmcsPlan plan = plan_with(pin::external_interrupt_exiting, exit_control::acknowledge_interrupt_on_exit);
    plan.primary &= ~primary::hlt_exiting;
    plan.rip = physical(l2_interrupt_in_sti_hlt);
    L2 l2{plan};
    l2.registers.rdi = interrupt_command;
    Check check{"an-external-interrupt-wakes-an-l2-that-halts-without-hlt-exiting"};
    check.runs_to(l2, reason::external_interrupt);
    check.equal("interruption information", read(field::vm_exit_interruption_information),
                0x80000000 | vector);
    const std::uint64_t behind_hlt = physical(l2_interrupt_in_sti_hlt) + 8;
    check.equal("RIP", read(field::guest_rip), behind_hlt);
    end_of_interrupt();
    write(field::guest_activity_state, 0);
    check.runs_to(l2, reason::vmcall);
}

void check_nmi_exit() {
    const RuleScope rule{{"3C 26.2", "with NMI exiting an NMI exits"}};
    VmcsPlan plan = plan_with(pin::nmi_exiting, 0);
    plan.rip = physical(l2_send_nmi);
    L2 l2{plan};
    l2.registers.rdi = interrupt_command;
    const std::uint64_t before = interrupt_count[vector_nmi];
    Check check{"an-nmi-exits-with-nmi-exiting"};
    check.runs_to(l2, reason::exception_or_nmi);
    check.equal("interruption information", read(field::vm_exit_interruption_information), 0x80000202);
    unblock_nmi();
    check.equal("NMIs that L1's IDT took", interrupt_count[vector_nmi] - before, 0);
    send_self_nmi();
    check.equal("an NMI of L1's own afterwards", interrupt_count[vector_nmi] - before, 1);
    {
        // SDM 3C 28.3.4: what is saved is the blocking before the NMI that exits.
        Check saved{"an-nmi-exit-saves-no-blocking-by-nmi"};
        saved.equal("interruptibility", read(field::guest_interruptibility_state), 0);
        saved.known({"blocking by NMI is saved", Deviation::Seen::beneath});
    }
    write(field::guest_interruptibility_state, 0);
    check.runs_to(l2, reason::vmcall);
    unblock_nmi();
}

void check_nmi_to_l2() {
    const RuleScope rule{{"3C 26.2", "without NMI exiting the guest takes the NMI"}};
    VmcsPlan plan = plan_with(0, 0);
    plan.rip = physical(l2_send_nmi);
    L2 l2{plan};
    l2.registers.rdi = interrupt_command;
    use_l2_idt(physical(allocate_page()) + page_size - 64);
    Check check{"without-nmi-exiting-an-nmi-goes-through-l2s-idt"};
    // The handler's page is fetched once before: the emulator loses an NMI whose handler's first fetch meets
    // an EPT violation, as it does under an L0 that fills its EPT on demand.
    write(field::guest_rip, l2_handler(vector_nmi));
    check.runs_to(l2, reason::vmcall);
    write(field::guest_rip, physical(l2_send_nmi));
    l2.registers.rax = 0;
    check.runs_to(l2, reason::vmcall);
    const L2Frame frame = l2_frame(l2);
    check.equal("vector", frame.vector, 2);
    check.equal("blocking by NMI", read(field::guest_interruptibility_state) & 8, 8);
    return_from_l2_event(frame);
    check.runs_to(l2, reason::vmcall);
    check.equal("blocking by NMI after IRET", read(field::guest_interruptibility_state) & 8, 0);
}

}  // namespace

void check_interrupts() {
    const PageScope scope;
    count_interrupts(vector);
    count_interrupts(vector_nmi);
    check_without_acknowledge();
    check_with_acknowledge();
    check_masked_in_l2();
    check_delivered_to_l2();
    check_in_halt();
    check_nmi_exit();
    check_nmi_to_l2();
}

}  // namespace flatback::guests
