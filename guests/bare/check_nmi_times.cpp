// NMIs that come at any tick of a VM exit and of a VM entry: under a hypervisor they meet it at any of its
// instructions. None may wait for an exit that has nothing to do with it. SDM 3C 26.2, 27.7.

#include "guests/bare/capabilities.hpp"
#include "guests/bare/catalogue.hpp"
#include "guests/bare/check.hpp"
#include "guests/bare/controls.hpp"
#include "guests/bare/cpu.hpp"
#include "guests/bare/ept12.hpp"
#include "guests/bare/interrupts.hpp"
#include "guests/bare/l2_programs.hpp"
#include "guests/bare/one_shot_nmi.hpp"

extern "C" {
extern char l2_spin_for_nmi[];
}

asm(R"(
.pushsection .text
.globl l2_spin_for_nmi
l2_spin_for_nmi:
    jmp l2_spin_for_nmi
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint64_t patience = 20'000;  // ticks; an exit and an entry take a tenth of it
constexpr std::uint32_t msr_misc = 0x485;

std::uint64_t nmis() {
    return interrupt_count[vector_nmi];
}

// Takes `ticks` ticks more for each higher number, one an iteration, and has no exit.
void delay(std::uint64_t iterations) {
    asm volatile("1: decq %0\n\tjns 1b" : "+r"(iterations) : : "cc");
}

bool comes_soon(std::uint64_t before) {
    const std::uint64_t begin = read_tsc();
    while (nmis() == before && read_tsc() - begin < patience) {
    }
    return nmis() != before;
}

void leave_by_cpuid() {
    std::uint32_t leaf = 0;
    asm volatile("cpuid" : "+a"(leaf) : : "rbx", "rcx", "rdx", "memory");
}

void check_around_an_exit() {
    Check check{"an-nmi-at-any-tick-of-an-exit-and-its-entry-comes-without-another-exit"};
    constexpr unsigned trials = 600;
    unsigned late = 0;
    for (unsigned trial = 0; trial < trials; ++trial) {
        const std::uint64_t before = nmis();
        one_shot_nmi::send_in(4);
        delay(trial % 300);
        leave_by_cpuid();
        if (comes_soon(before)) continue;
        ++late;
        leave_by_cpuid();
    }
    check.equal("NMIs that came late", late, 0);
}

void check_around_an_entry() {
    if (!capabilities.pin.may_set(pin::nmi_exiting | pin::activate_vmx_preemption_timer)) {
        report_not_offered("NMI exiting beside the preemption timer");
        return;
    }
    VmcsPlan plan = usual_plan(physical(l2_spin_for_nmi), usual_ept().pointer());
    plan.pin |= pin::nmi_exiting | pin::activate_vmx_preemption_timer;
    L2 l2{plan};
    const std::uint64_t rate = read_msr(msr_misc) & 31;
    Check check{"an-nmi-at-any-tick-of-an-entry-exits-from-an-l2-that-spins"};
    const std::uint64_t host_rip = read(field::host_rip);
    constexpr unsigned trials = 1400;
    unsigned late = 0;
    unsigned exits = 0;
    for (unsigned trial = 0; trial < trials; ++trial) {
        const std::uint64_t before = nmis();
        one_shot_nmi::send_in(16);
        delay(trial % 700);
        if (nmis() != before) continue;
        write(field::vmx_preemption_timer_value, (patience >> rate) + 1);
        write(field::guest_interruptibility_state, 0);
        if (l2.run() == reason::exception_or_nmi) {
            ++exits;
            unblock_nmi();
        } else if (nmis() == before || interrupted_rip == host_rip) {
            ++late;  // L1 got it behind the timer's exit
        }
    }
    check.equal("NMIs that came late", late, 0);
    check.holds("NMIs that exited", exits != 0);
}

}  // namespace

void check_nmi_times() {
    const PageScope scope;
    count_interrupts(vector_nmi);
    check_around_an_exit();
    check_around_an_entry();
    one_shot_nmi::stop();
}

}  // namespace flatback::guests
