// NMIs that come at any tick of a VM exit and of a VM entry: under a hypervisor they meet it at any of its
// instructions. None may wait for an exit that has nothing to do with it. SDM 3C 26.2, 27.7.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/interrupts.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/reserved_memory.hpp"
#include "guests/bare/l1/rule.hpp"
#include "guests/bare/l1/timer_nmi.hpp"

extern "C" {
extern char l2_spin_for_nmi[];
extern char l2_nmi_exit[];
}

asm(R"(
.pushsection .text
.globl l2_spin_for_nmi, l2_nmi_exit
l2_spin_for_nmi:
    jmp l2_spin_for_nmi
l2_nmi_exit:
    movl $0x4400, (%rdi)
    nop
    nop
    vmcall
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint64_t patience = 20'000;  // ticks; an exit and an entry take a tenth of it
constexpr std::uint32_t msr_misc = 0x485;
constexpr std::uint64_t interrupt_command = 0xFEE00300;

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

// There no external interrupt ends a guest that was entered with RFLAGS.IF = 0: a hypervisor that counts
// a timer of its guest's by one of its own does not come back to what spins.
bool would_not_come_back() {
    return beneath_is_bochs() && under_a_hypervisor() && !under_flatback();
}

void check_around_an_exit() {
    const RuleScope rule{{"3C 26.2", "an NMI is taken at once where nothing blocks it"}};
    if (would_not_come_back()) {
        report_not_offered("an L1 that spins: the emulator beneath would not give it back");
        return;
    }
    Check check{"an-nmi-at-any-tick-of-an-exit-and-its-entry-comes-without-another-exit"};
    constexpr unsigned trials = 600;
    unsigned late = 0;
    for (unsigned trial = 0; trial < trials; ++trial) {
        const std::uint64_t before = nmis();
        timer_nmi::send_in(4);
        delay(trial % 300);
        leave_by_cpuid();
        if (comes_soon(before)) continue;
        ++late;
        leave_by_cpuid();
    }
    check.equal("NMIs that came late", late, 0);
}

// How many times longer an entry and the exit by the preemption timer take than under one hypervisor: under
// several the NMI is to come in the middle of them too.
std::uint64_t slowness(L2& l2) {
    constexpr std::uint64_t usual = 2'000;
    std::uint64_t ticks = 0;
    for (int round = 0; round < 2; ++round) {  // the first entry of a VMCS takes longer
        const std::uint64_t begin = read_tsc();
        write(field::vmx_preemption_timer_value, 0);
        write(field::guest_interruptibility_state, 0);
        static_cast<void>(l2.run());
        ticks = read_tsc() - begin;
    }
    return ticks / usual + 1;
}

void check_around_an_entry() {
    const RuleScope rule{{"3C 26.2", "an NMI that comes around an entry exits from the guest"}};
    if (!capabilities.pin.may_set(pin::nmi_exiting | pin::activate_vmx_preemption_timer)) {
        report_not_offered("NMI exiting beside the preemption timer");
        return;
    }
    if (would_not_come_back()) {
        report_not_offered("an L2 that spins: the emulator beneath would not give it back");
        return;
    }
    VmcsPlan plan = usual_plan(physical(l2_spin_for_nmi), usual_ept().pointer());
    plan.pin |= pin::nmi_exiting | pin::activate_vmx_preemption_timer;
    L2 l2{plan};
    const std::uint64_t rate = read_msr(msr_misc) & 31;
    Check check{"an-nmi-at-any-tick-of-an-entry-exits-from-an-l2-that-spins"};
    const std::uint64_t host_rip = read(field::host_rip);
    const std::uint64_t times = slowness(l2);
    const auto periods = static_cast<std::uint16_t>(times < 1'000 ? 16 * times : 16'000);
    constexpr unsigned trials = 1400;
    unsigned late = 0;
    unsigned exits = 0;
    for (unsigned trial = 0; trial < trials; ++trial) {
        const std::uint64_t before = nmis();
        timer_nmi::send_in(periods);
        delay(trial % 700 * times);
        if (nmis() != before) continue;
        write(field::vmx_preemption_timer_value, (patience * times >> rate) + 1);
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

// Behind an NMI exit NMIs are blocked. Another is sent then, and an entry made that fails at an MSR: a
// hypervisor beneath meets a fault there, whose end lets the NMI in.
void check_behind_iret() {
    const RuleScope rule{{"3A 7.7.1", "IRET ends blocking by NMI, and the NMI that waits comes"}};
    if (!capabilities.pin.may_set(pin::nmi_exiting)) {
        report_not_offered("NMI exiting");
        return;
    }
    struct MsrEntry {
        std::uint64_t index;
        std::uint64_t value;
    };
    constexpr std::uint64_t msr_lstar = 0xC0000082;
    constexpr std::uint64_t not_canonical = 0x8000'0000'0000;
    auto* const list = reinterpret_cast<MsrEntry*>(allocate_page());
    list[0] = {msr_lstar, not_canonical};
    VmcsPlan plan = usual_plan(physical(l2_nmi_exit), usual_ept().pointer());
    plan.pin |= pin::nmi_exiting;
    L2 l2{plan};
    l2.registers.rdi = interrupt_command;
    Check check{"an-nmi-that-waits-for-an-iret-comes-at-it"};
    check.runs_to(l2, reason::exception_or_nmi);
    write(field::guest_interruptibility_state, 0);
    write(field::vm_entry_msr_load_address, physical(list));
    write(field::vm_entry_msr_load_count, 1);
    const std::uint64_t before = nmis();
    send_self_nmi();
    check.equal("NMIs while they are blocked", nmis() - before, 0);
    check.runs_to(l2, reason::entry_failure | reason::entry_failure_msr_loading);
    // L0 lets such a write through by itself, one instruction: the NMI does not keep it from that.
    if (const MemoryHole hole = top_reserved_range(); under_flatback() && hole.end > hole.begin) {
        auto* const word = reinterpret_cast<volatile std::uint64_t*>(hole.begin);
        *word = 0;
        check.equal("what is written where there is no memory", *word, ~std::uint64_t{0});
    }
    unblock_nmi();
    check.equal("NMIs behind the IRET", nmis() - before, 1);
    leave_by_cpuid();
    check.equal("NMIs behind another exit", nmis() - before, 1);
}

}  // namespace

void check_nmi_times() {
    const PageScope scope;
    count_interrupts(vector_nmi);
    check_around_an_exit();
    check_around_an_entry();
    timer_nmi::stop();
    check_behind_iret();
}

}  // namespace flatback::guests
