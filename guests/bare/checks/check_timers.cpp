// The preemption timer, and the time-stamp counter as L2 sees it. SDM 3C 26.3, 26.5.1, 28.2.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/rule.hpp"

extern "C" {
extern char l2_spin[];
extern char l2_read_tsc[];
extern char l2_wait_then_call[];
}

asm(R"(
.pushsection .text
.globl l2_spin, l2_read_tsc, l2_wait_then_call
l2_spin:
    jmp l2_spin
l2_read_tsc:
    rdtsc
    movq %rax, %r8
    movq %rdx, %r9
    movl $0x10, %ecx
    rdmsr
    vmcall
l2_wait_then_call:
    movl $2000, %ecx
1:  decl %ecx
    jnz 1b
    vmcall
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint32_t msr_misc = 0x485;

void check_preemption_timer() {
    const RuleScope rule{{"3C 26.5.1", "the preemption timer counts down from its value in the VMCS"}};
    VmcsPlan plan = usual_plan(physical(l2_spin), usual_ept().pointer());
    plan.pin |= pin::activate_vmx_preemption_timer;
    L2 l2{plan};
    {
        Check check{"a-preemption-timer-of-zero-exits-before-l2s-first-instruction"};
        write(field::guest_rip, physical(l2_cpuid_loop));
        write(field::vmx_preemption_timer_value, 0);
        check.runs_to(l2, reason::vmx_preemption_timer_expired);
        check.equal("RIP", read(field::guest_rip), physical(l2_cpuid_loop));
    }
    {
        Check check{"the-preemption-timer-ends-an-l2-that-spins"};
        // IA32_VMX_MISC[4:0]: the timer counts down when this bit of the TSC changes.
        const std::uint64_t rate = read_msr(msr_misc) & 31;
        constexpr std::uint64_t counts = 1000;
        write(field::guest_rip, physical(l2_spin));
        write(field::vmx_preemption_timer_value, counts);
        const std::uint64_t begin = read_tsc();
        check.runs_to(l2, reason::vmx_preemption_timer_expired);
        check.holds("it lasted as long as the timer's value says", read_tsc() - begin >= (counts - 1)
                                                                                             << rate);
        check.equal("RIP", read(field::guest_rip), physical(l2_spin));
    }
    {
        Check check{"an-exit-before-the-preemption-timer-ends-is-its-own"};
        write(field::guest_rip, physical(l2_cpuid_loop));
        write(field::vmx_preemption_timer_value, 0x7FFFFFFF);
        check.runs_to(l2, reason::cpuid);
        check.equal("timer value, which is not saved", read(field::vmx_preemption_timer_value), 0x7FFFFFFF);
    }
    if (!capabilities.exit.may_set(exit_control::save_vmx_preemption_timer_value)) {
        report_not_offered("saving of the preemption timer");
        return;
    }
    {
        Check check{"the-preemption-timers-value-is-saved-with-save-preemption-timer"};
        write(field::vm_exit_controls,
              read(field::vm_exit_controls) | exit_control::save_vmx_preemption_timer_value);
        const std::uint64_t rate = read_msr(msr_misc) & 31;
        constexpr std::uint64_t first = 1'000'000;
        write(field::guest_rip, physical(l2_wait_then_call));
        write(field::vmx_preemption_timer_value, first);
        check.runs_to(l2, reason::vmcall);
        const std::uint64_t left = read(field::vmx_preemption_timer_value);
        check.holds("it counted while L2 ran", left <= first - (4000 >> rate));
        check.holds("it did not end", left > 0);
    }
    // SDM 3C 28.3.4 (in older editions 27.3.4): an exit by the timer saves zero.
    {
        Check check{"an-exit-by-the-preemption-timer-saves-zero"};
        write(field::vmx_preemption_timer_value, 1000);
        write(field::guest_rip, physical(l2_spin));
        check.runs_to(l2, reason::vmx_preemption_timer_expired);
        check.equal("value", read(field::vmx_preemption_timer_value), 0);
    }
    Check check{"an-exit-by-a-preemption-timer-that-was-zero-saves-zero"};
    write(field::vmx_preemption_timer_value, 0);
    check.runs_to(l2, reason::vmx_preemption_timer_expired);
    check.equal("value", read(field::vmx_preemption_timer_value), 0);
    check.known({"what an earlier exit left is saved", Deviation::Seen::beneath});
}

std::uint64_t low_high(std::uint64_t low, std::uint64_t high) {
    return (low & 0xFFFFFFFF) | high << 32;
}

void check_tsc_offset() {
    const RuleScope rule{{"3C 26.3", "RDTSC and RDMSR of the TSC add the TSC offset"}};
    VmcsPlan plan = usual_plan(physical(l2_read_tsc), usual_ept().pointer());
    plan.primary |= primary::use_msr_bitmaps;
    plan.msr_bitmaps = physical(allocate_page());
    constexpr std::uint64_t offsets[] = {0, 0x123'4567'89AB, ~std::uint64_t{0} - 999'999};
    {
        L2 l2{plan};
        Check check{"without-tsc-offsetting-l2-reads-l1s-time"};
        write(field::tsc_offset, 0x7777'7777'7777);
        const std::uint64_t begin = read_tsc();
        check.runs_to(l2, reason::vmcall);
        const std::uint64_t end = read_tsc();
        const std::uint64_t seen = low_high(l2.registers.r8, l2.registers.r9);
        check.holds("between L1's own readings", begin <= seen && seen <= end);
    }
    plan.primary |= primary::use_tsc_offsetting;
    L2 l2{plan};
    Check check{"l2-reads-the-tsc-with-its-offset-by-rdtsc-and-by-rdmsr"};
    for (const std::uint64_t offset : offsets) {
        write(field::guest_rip, plan.rip);
        write(field::tsc_offset, offset);
        const std::uint64_t begin = read_tsc() + offset;
        check.runs_to(l2, reason::vmcall);
        const std::uint64_t length = read_tsc() + offset - begin;
        check.holds("RDTSC", low_high(l2.registers.r8, l2.registers.r9) - begin <= length);
        check.holds("RDMSR", low_high(l2.registers.rax, l2.registers.rdx) - begin <= length);
    }
}

}  // namespace

void check_timers() {
    const PageScope scope;
    if (capabilities.pin.may_set(pin::activate_vmx_preemption_timer)) {
        check_preemption_timer();
    } else {
        report_not_offered("the preemption timer");
    }
    check_tsc_offset();
}

}  // namespace flatback::guests
