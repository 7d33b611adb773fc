// Parts that hang on purpose, so that a run can show that such a part is told and left. None runs unless it
// is named.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_idt.hpp"
#include "guests/bare/l1/l2_programs.hpp"

extern "C" {
extern char l2_spin_for_ever[];
extern char l2_halt_for_ever[];
}

asm(R"(
.pushsection .text
.globl l2_spin_for_ever, l2_halt_for_ever
l2_spin_for_ever:
    jmp l2_spin_for_ever
l2_halt_for_ever:
    hlt
    jmp l2_halt_for_ever
.popsection
)");

namespace flatback::guests {
namespace {

void run_for_ever(const VmcsPlan& plan, std::string_view name) {
    const PageScope scope;
    L2 l2{plan};
    use_l2_idt(physical(allocate_page()) + page_size - 64);
    Check check{name};
    check.runs_to(l2, reason::cpuid);
}

}  // namespace

void hang_in_l1() {
    for (;;) asm volatile("" : : : "memory");
}

// Without NMI exiting: the NMI is L2's own, and its handler's VMCALL is the exit.
void hang_in_l2() {
    run_for_ever(usual_plan(physical(l2_spin_for_ever), usual_ept().pointer()), "an-l2-that-spins");
}

void hang_in_halted_l2() {
    VmcsPlan plan = usual_plan(physical(l2_halt_for_ever), usual_ept().pointer());
    plan.primary &= ~primary::hlt_exiting;
    plan.pin |= pin::nmi_exiting;
    run_for_ever(plan, "an-l2-that-halts");
}

void meet_an_exception() {
    asm volatile("ud2");
}

}  // namespace flatback::guests
