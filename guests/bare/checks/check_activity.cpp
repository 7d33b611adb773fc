// Activity states of L2: those that the processor offers, and the rules for the others. SDM
// 3C 25.4.2, 27.7.2.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/interrupts.hpp"
#include "guests/bare/l1/l2_idt.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/rule.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t active = 0;
constexpr std::uint64_t halted = 1;
constexpr std::uint64_t shut_down = 2;
constexpr std::uint64_t waiting_for_sipi = 3;
constexpr std::uint32_t invalid_guest_state = reason::entry_failure_guest_state | reason::entry_failure;

// IA32_VMX_MISC bits 6 to 8.
bool offers(std::uint64_t state) {
    return (capabilities.misc >> (5 + state) & 1) != 0;
}

// The usual L2, and the preemption timer as the way out of a state that should not have been entered.
VmcsPlan plan_with_backstop() {
    VmcsPlan plan = usual_plan(physical(l2_cpuid_loop), usual_ept().pointer());
    plan.pin |= pin::activate_vmx_preemption_timer;
    return plan;
}

void start_backstop() {
    if (capabilities.pin.may_set(pin::activate_vmx_preemption_timer))
        write(field::vmx_preemption_timer_value, 100'000);
}

void check_states_not_offered() {
    const RuleScope rule{{"3C 27.3.1.5", "an activity state is one that IA32_VMX_MISC offers"}};
    Check check{"an-activity-state-that-is-not-offered-is-an-invalid-guest-state"};
    L2 l2{plan_with_backstop()};
    start_backstop();
    for (const std::uint64_t state : {std::uint64_t{4}, std::uint64_t{7}}) {
        write(field::guest_activity_state, state);
        check.runs_to(l2, invalid_guest_state);
    }
    for (const std::uint64_t state : {halted, shut_down, waiting_for_sipi}) {
        if (offers(state)) continue;
        write(field::guest_activity_state, state);
        check.runs_to(l2, invalid_guest_state);
    }
}

void check_halted_entry() {
    const RuleScope rule{
        {"3C 27.7.2", "in the HLT state events that would end HLT end it, and others cannot be injected"}};
    if (!offers(halted)) {
        report_not_offered("activity state HLT");
        return;
    }
    L2 l2{plan_with_backstop()};
    start_backstop();
    use_l2_idt(physical(allocate_page()) + page_size - 64);
    {
        Check check{"an-interrupt-injected-into-a-halted-l2-wakes-it"};
        write(field::guest_activity_state, halted);
        write(field::guest_rflags, 0x202);
        write(field::vm_entry_interruption_information, 0x80000080);
        check.runs_to(l2, reason::vmcall);
        check.equal("vector", l2_frame(l2).vector, 0x80);
        check.equal("activity state", read(field::guest_activity_state), active);
        return_from_l2_event(l2_frame(l2));
        check.runs_to(l2, reason::cpuid);
    }
    {
        Check check{"a-halted-entry-with-a-page-fault-to-inject-is-an-invalid-guest-state"};
        write(field::guest_activity_state, halted);
        write(field::vm_entry_interruption_information, 0x80000B0E);
        check.runs_to(l2, invalid_guest_state);
        check.known({"it is delivered", Deviation::Seen::beneath});
        write(field::vm_entry_interruption_information, 0);
    }
    if (!capabilities.pin.may_set(pin::activate_vmx_preemption_timer)) return;
    Check check{"the-preemption-timer-ends-a-halted-l2"};
    write(field::vmx_preemption_timer_value, 1000);
    write(field::guest_activity_state, halted);
    check.runs_to(l2, reason::vmx_preemption_timer_expired);
    check.equal("activity state saved", read(field::guest_activity_state), halted);
}

void check_events_in_halt() {
    const RuleScope rule{{"3C 26.2", "what would exit from an L2 that runs exits from one that is halted"}};
    constexpr std::uint8_t vector = 0x50;
    if (!offers(halted) || !capabilities.pin.may_set(pin::activate_vmx_preemption_timer)) return;
    count_interrupts(vector);
    const auto let_interrupts_in = [] { asm volatile("sti; nop; nop; cli" : : : "memory"); };
    VmcsPlan plan = plan_with_backstop();
    plan.pin |= pin::external_interrupt_exiting;
    plan.exit |= exit_control::acknowledge_interrupt_on_exit;
    L2 l2{plan};
    start_backstop();
    {
        Check check{"an-external-interrupt-exits-from-an-l2-that-is-entered-halted"};
        write(field::guest_activity_state, halted);
        write(field::guest_rflags, 0x202);
        send_self_interrupt(vector);
        check.runs_to(l2, reason::external_interrupt);
        check.equal("interruption information", read(field::vm_exit_interruption_information),
                    0x80000000 | vector);
        check.equal("RIP", read(field::guest_rip), physical(l2_cpuid_loop));
        end_of_interrupt();
    }
    {
        Check check{"an-external-interrupt-exits-from-an-l2-that-is-entered-halted-with-interrupts-off"};
        write(field::guest_activity_state, halted);
        write(field::guest_rflags, 0x2);
        send_self_interrupt(vector);
        check.runs_to(l2, reason::external_interrupt);
        check.known({"it is not woken", Deviation::Seen::beneath});
        if (interrupt_in_service(vector)) end_of_interrupt();
        let_interrupts_in();
    }
    {
        Check check{"an-open-interrupt-window-exits-from-an-l2-that-is-entered-halted"};
        write(field::guest_activity_state, halted);
        write(field::guest_rflags, 0x202);
        write(field::primary_processor_based_vm_execution_controls,
              read(field::primary_processor_based_vm_execution_controls) | primary::interrupt_window_exiting);
        check.runs_to(l2, reason::interrupt_window);
        check.known({"it is not woken", Deviation::Seen::beneath});
    }
}

void check_shutdown_entry() {
    const RuleScope rule{
        {"3C 27.3.1.5", "into the shutdown state nothing is injected but an NMI or a machine check"}};
    if (!offers(shut_down)) {
        report_not_offered("activity state shutdown");
        return;
    }
    L2 l2{plan_with_backstop()};
    start_backstop();
    Check check{"an-interrupt-to-inject-into-a-shut-down-l2-is-an-invalid-guest-state"};
    write(field::guest_activity_state, shut_down);
    write(field::guest_rflags, 0x202);
    write(field::vm_entry_interruption_information, 0x80000080);
    check.runs_to(l2, invalid_guest_state);
}

}  // namespace

void check_activity() {
    const PageScope scope;
    check_states_not_offered();
    check_halted_entry();
    check_events_in_halt();
    check_shutdown_entry();
}

}  // namespace flatback::guests
