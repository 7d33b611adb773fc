// What several processors cost, with an L0 and without one: interrupts from one to another in L1 and between
// L2s, a shootdown, an L2 that moves, an exit on all of them at once, the start of one.

#include <array>
#include <new>

#include "guests/bare/benches/bench.hpp"
#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/counters.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/interrupts.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/linear_tables.hpp"
#include "guests/bare/l1/linear_window.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/memory_program.hpp"
#include "guests/bare/l1/part.hpp"
#include "guests/bare/l1/second_processor.hpp"

extern "C" {
extern char l2_touch_and_spin[];
extern char l2_take_interrupt[];
extern char l2_shoot_down[];
extern volatile std::uint64_t l2_handled;
extern volatile std::uint64_t l2_stale;
extern volatile std::uint64_t l2_first_page;
extern volatile std::uint64_t l2_page_count;
extern volatile std::uint64_t l2_expected;
}

asm(R"(
.pushsection .text
.globl l2_touch_and_spin, l2_take_interrupt, l2_shoot_down
# Reads the first quadword of RCX pages from RDI on, for ever.
l2_touch_and_spin:
    movq %rdi, %rdx
    movq %rcx, %rbx
1:  movq (%rdx), %rax
    addq $4096, %rdx
    decq %rbx
    jnz 1b
    pause
    jmp l2_touch_and_spin
# The other vCPU's handler: forgets the pages that were changed, looks at each, and says that it has.
l2_take_interrupt:
    pushq %rax
    pushq %rcx
    pushq %rdi
    movq l2_first_page(%rip), %rdi
    movq l2_page_count(%rip), %rcx
    testq %rcx, %rcx
    jz 3f
1:  invlpg (%rdi)
    movq (%rdi), %rax
    cmpq l2_expected(%rip), %rax
    je 2f
    incq l2_stale(%rip)
2:  addq $4096, %rdi
    decq %rcx
    jnz 1b
3:  incq l2_handled(%rip)
    popq %rdi
    popq %rcx
    popq %rax
    iretq
# Changes RCX page-table entries from RSI on by RBX, forgets the pages from RDI on, has L1 send an interrupt to the other
# vCPU, and waits until l2_handled is R10.
l2_shoot_down:
1:  xorq %rbx, (%rsi)
    invlpg (%rdi)
    addq $8, %rsi
    addq $4096, %rdi
    decq %rcx
    jnz 1b
    vmcall
2:  pause
    cmpq %r10, l2_handled(%rip)
    jne 2b
    vmcall
.popsection
.pushsection .bss
.balign 8
.globl l2_handled, l2_stale, l2_first_page, l2_page_count, l2_expected
l2_handled: .skip 8
l2_stale: .skip 8
l2_first_page: .skip 8
l2_page_count: .skip 8
l2_expected: .skip 8
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint8_t vector = 0x53;
constexpr std::uint32_t command_fixed = 0x4000;
constexpr std::uint64_t shot_pages = 16;
constexpr std::uint64_t waits_at_most = 10'000'000;  // ticks
constexpr std::uint32_t msr_apic_base = 0x1B;
constexpr std::uint64_t x2apic_enable = 1U << 10;
constexpr std::uint64_t global_enable = 1U << 11;

// What one of the other processors has of its own.
struct Own {
    Page* vmxon = nullptr;
    alignas(L2) std::array<std::byte, sizeof(L2)> l2{};
    std::uint64_t ticks = 0;
    bool good = false;
};
constinit std::array<Own, most_others> own_of{};
Own& own() {
    return own_of[this_other()];
}
L2& own_l2() {
    return *std::launder(reinterpret_cast<L2*>(own().l2.data()));
}

volatile unsigned ready = 0;
volatile bool go = false;
volatile bool stop = false;

[[noreturn]] void give_up(std::string_view what) {
    leave_part(what);
}
// On the first processor.
void wait_until(const auto& condition, std::string_view what) {
    const std::uint64_t start_of_wait = read_tsc();
    while (!condition()) {
        if (read_tsc() - start_of_wait > waits_at_most) give_up(what);
        asm volatile("pause");
    }
}
// The same where an L0 has to get this processor back meanwhile. The emulator lets no interrupt end a guest
// that was entered with IF = 0 before IF changes.
void wait_with_interrupts_until(const auto& condition, std::string_view what) {
    const std::uint64_t start_of_wait = read_tsc();
    while (!condition()) {
        if (read_tsc() - start_of_wait > waits_at_most) give_up(what);
        asm volatile("sti; pause; cli" ::: "memory");
    }
}
void do_on_all_others(void (*work)(), std::string_view what) {
    for (unsigned which = 0; which < others(); ++which) {
        if (!do_on_other(which, work) || !own_of[which].good) give_up(what);
    }
}
void report_smp(std::string_view name, std::uint64_t value) {
    Line key;
    key << "smp." << name;
    report_bench(key.text(), value);
}
void report_of(std::string_view name, unsigned processor, std::uint64_t value) {
    Line key;
    key << name << "." << std::uint64_t{processor};
    report_smp(key.text(), value);
}

void enter_vmx_operation_there() {
    write_cr0((read_cr0() | capabilities.cr0_fixed0) & capabilities.cr0_fixed1);
    write_cr4((read_cr4() | capabilities.cr4_fixed0 | cr4_vmxe) & capabilities.cr4_fixed1);
    const std::uint64_t address = physical(own().vmxon);
    own().good = try_vmxon(&address) == vm_succeed;
}
void leave_vmx_operation_there() {
    own().good = try_vmxoff() == vm_succeed;
}

// --- a reflected exit on all at once

constinit VmcsPlan plan_of_all{};

void make_l2_there() {
    auto* const l2 = new (own().l2.data()) L2{plan_of_all};
    own().good = l2->run() == reason::cpuid;
}
void end_l2_there() {
    own_l2().~L2();
    own().good = true;
}
void reflect_there() {
    L2& l2 = own_l2();
    __atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
    while (!go) asm volatile("pause");
    own().ticks = mean_ticks(bench_iterations, [&] { reflect_cpuid(l2); });
}

void bench_exits_at_once(std::string_view name, const VmcsPlan& plan) {
    const PageScope scope;
    plan_of_all = plan;
    L2 l2{plan};
    run_or_die(l2, reason::cpuid);
    if (name == "reflected_exit")
        report_smp("reflected_exit_alone", mean_ticks(bench_iterations, [&] { reflect_cpuid(l2); }));
    do_on_all_others(make_l2_there, "an L2 of another processor does not run");
    ready = 0;
    go = false;
    for (unsigned which = 0; which < others(); ++which) begin_on_other(which, reflect_there);
    wait_until([] { return ready == others(); }, "another processor does not get ready");
    go = true;
    const std::uint64_t ticks = mean_ticks(bench_iterations, [&] { reflect_cpuid(l2); });
    report_of(name, 0, ticks);
    for (unsigned which = 0; which < others(); ++which) {
        if (!finish_on_other(which)) give_up("another processor does not come to an end");
        report_of(name, which + 1, own_of[which].ticks);
    }
    do_on_all_others(end_l2_there, "VMCLEAR on another processor");
}

// --- an L2 that moves

L2* moved = nullptr;
std::uint64_t first_entry_ticks = 0;
std::uint64_t flushes_of_move = 0;
std::uint64_t flushes_behind = 0;
std::uint64_t entries_behind = 0;

// Behind VMCLEAR. A hypervisor that brings an L2 to another processor forgets there what an earlier stay of
// the L2's, or another L2 with its VPID, has left (SDM 3C 29.4.3.3).
std::uint64_t time_first_entry(bool comes) {
    const std::uint64_t begin = read_tsc();
    moved->make_current();
    write_own_host_state();
    if (comes && capabilities.has_invvpid_type(invvpid_type::single_context))
        invvpid(invvpid_type::single_context, {1, 0});
    const std::uint32_t left = moved->run();
    const std::uint64_t ticks = read_tsc() - begin;
    if (left == reason::cpuid) L2::skip_instruction();
    return left == reason::cpuid ? ticks : 0;
}
void run_moved_there() {
    CounterInterval first;
    first_entry_ticks = time_first_entry(true);
    first.end();
    flushes_of_move = first.of(Counter::l2_tag_flushes);
    constexpr unsigned further = 10;
    CounterInterval behind;
    own().good = first_entry_ticks != 0;
    for (unsigned entry = 0; entry < further; ++entry) {
        own().good = own().good && moved->run() == reason::cpuid;
        L2::skip_instruction();
    }
    behind.end();
    flushes_behind = behind.of(Counter::l2_tag_flushes);
    entries_behind = behind.of(Counter::l2_entries);
    moved->clear();
}

void bench_moves() {
    const PageScope scope;
    constexpr unsigned moves = 8;
    L2 l2{usual_plan(physical(l2_cpuid_loop), usual_ept().pointer())};
    moved = &l2;
    run_or_die(l2, reason::cpuid);
    L2::skip_instruction();
    std::uint64_t ticks = 0;
    std::uint64_t same = 0;
    std::uint64_t flushes = 0;
    std::uint64_t later = 0;
    std::uint64_t entries = 0;
    for (unsigned move = 0; move < moves; ++move) {
        l2.clear();
        if (!do_on_second(run_moved_there) || !own_of[0].good) give_up("a moved L2 does not run");
        ticks += first_entry_ticks;
        flushes += flushes_of_move;
        later += flushes_behind;
        entries += entries_behind;
        const std::uint64_t back = time_first_entry(true);
        l2.clear();
        const std::uint64_t stays = time_first_entry(false);
        if (back == 0 || stays == 0) give_up("an L2 that comes back does not run");
        same += stays;
    }
    report_smp("moved_first_entry", ticks / moves);
    report_smp("cleared_first_entry", same / moves);
    if (!under_flatback()) return;  // only L0 can count
    report_smp("flushes_per_move_x100", hundredths(flushes, moves));
    if (entries == 0) give_up("L0 counted no entry into a moved L2");
    report_smp("flushes_per_entry_x100", hundredths(later, entries));
}

// --- between L2s

LinearTables* tables_of_both = nullptr;
Page* interrupt_gates = nullptr;
Page* stack_of_second = nullptr;

// Runs until `stop`; each interrupt is given to the L2.
void second_runs_l2_with_interrupts() {
    VmcsPlan plan = usual_plan(physical(l2_touch_and_spin), usual_ept().pointer());
    plan.pin |= pin::external_interrupt_exiting;
    plan.exit |= exit_control::acknowledge_interrupt_on_exit;
    plan.cr3 = tables_of_both->root();
    L2 l2{plan};
    write(field::guest_rflags, 0x202);
    write(field::guest_idtr_base, physical(interrupt_gates));
    write(field::guest_idtr_limit, page_size - 1);
    write(field::guest_rsp, physical(stack_of_second) + page_size);
    l2.registers.rdi = free_window;
    l2.registers.rcx = shot_pages;
    ready = 1;
    own().good = true;
    while (!stop) {
        if (l2.run() != reason::external_interrupt) {
            own().good = false;
            return;
        }
        end_of_interrupt();
        write(field::vm_entry_interruption_information, 0x80000000U | vector);
    }
}

void bench_between_l2s() {
    const PageScope scope;
    LinearTables tables;
    tables.map_image();
    tables_of_both = &tables;
    const std::array frames{allocate_page(), allocate_page()};
    constexpr std::uint64_t rights = linear_page::present | linear_page::writable;
    for (unsigned i = 0; i < 2; ++i) frames[i]->words[0] = i;
    for (std::uint64_t page = 0; page < shot_pages; ++page)
        tables.entry(free_window + page * page_size) = physical(frames[0]) | rights;
    stack_of_second = allocate_page();
    interrupt_gates = allocate_page();
    const std::uint64_t handler = physical(l2_take_interrupt);
    interrupt_gates->words[vector * 2] =
        (handler & 0xFFFF) | 0x08U << 16 | 0x8E00ULL << 32 | (handler >> 16 & 0xFFFF) << 48;
    interrupt_gates->words[vector * 2 + 1] = handler >> 32;

    VmcsPlan plan = usual_plan(physical(l2_vmcall_loop), usual_ept().pointer());
    plan.cr3 = tables.root();
    L2 l2{plan};
    run_or_die(l2, reason::vmcall);
    l2_handled = 0;
    l2_stale = 0;
    l2_page_count = 0;
    l2_expected = 0;
    ready = 0;
    stop = false;
    begin_on_second(second_runs_l2_with_interrupts);
    wait_until([] { return ready == 1; }, "the other vCPU does not get ready");
    const std::uint64_t begin_of_wait = read_tsc();
    while (read_tsc() - begin_of_wait < 20'000) asm volatile("pause");

    std::uint64_t sent = 0;
    report_smp("ipi_l2", mean_ticks(bench_iterations, [&] {
                   run_or_die(l2, reason::vmcall);  // it asks L1 to send, as by its APIC
                   send_to_second(command_fixed | vector);
                   ++sent;
                   wait_with_interrupts_until([&] { return l2_handled == sent; },
                                              "an interrupt does not reach the other vCPU");
               }));

    l2_first_page = free_window;
    l2_page_count = shot_pages;
    // This L2 waits in a loop. The emulator lets no interrupt end a guest that was entered with IF = 0 before
    // that changes: an L0 that gets its processor back by one, as KVM does, would wait for ever. None is
    // given to this L2.
    write(field::guest_rflags, 0x202);
    report_smp("shootdown_l2", mean_ticks(bench_iterations, [&] {
                   ++sent;
                   l2_expected = l2_expected ^ 1;
                   start(l2, l2_shoot_down, free_window, physical(frames[0]) ^ physical(frames[1]));
                   l2.registers.rsi = physical(const_cast<std::uint64_t*>(&tables.entry(free_window)));
                   l2.registers.rcx = shot_pages;
                   l2.registers.r10 = sent;
                   run_or_die(l2, reason::vmcall);
                   L2::skip_instruction();
                   send_to_second(command_fixed | vector);
                   run_or_die(l2, reason::vmcall);
               }));
    report_smp("shootdown_pages", shot_pages);
    stop = true;
    send_to_second(command_fixed | vector);
    if (!finish_on_second() || !own_of[0].good) give_up("the other vCPU did not come to its end");
    if (l2_stale != 0) give_up("the other vCPU used a translation that it had been told to forget");
}

// --- in L1

void second_takes_interrupts() {
    ready = 1;
    asm volatile("sti" ::: "memory");
    while (!stop) asm volatile("pause");
    asm volatile("cli" ::: "memory");
    own().good = true;
}

void bench_interrupts(std::string_view mode, std::uint64_t apic_timer) {
    const auto report_mode = [&](std::string_view name, std::uint64_t ticks) {
        Line key;
        key << name << "_" << mode;
        report_smp(key.text(), ticks);
    };
    ready = 0;
    stop = false;
    begin_on_second(second_takes_interrupts);
    wait_until([] { return ready == 1; }, "another processor does not get ready");
    // From the command to the other's handler, which counts.
    report_mode("ipi_l1", mean_ticks(bench_iterations, [] {
                    const std::uint64_t before = interrupt_count[vector];
                    send_to_second(command_fixed | vector);
                    wait_until([&] { return interrupt_count[vector] != before; }, "an interrupt is lost");
                }));
    stop = true;
    if (!finish_on_second()) give_up("another processor does not come to an end");
    report_mode("eoi", mean_ticks(bench_iterations, [] { end_of_interrupt(); }));
    report_mode("timer", mean_ticks(bench_iterations, [&] {
                    if (apic_timer < page_size) {
                        write_msr(static_cast<std::uint32_t>(apic_timer), 0);
                    } else {
                        *reinterpret_cast<volatile std::uint32_t*>(apic_timer) = 0;
                    }
                }));
}

void use_x2apic_there() {
    write_msr(msr_apic_base, read_msr(msr_apic_base) | x2apic_enable);
    own().good = true;
}
void leave_x2apic_there() {
    const std::uint64_t base = read_msr(msr_apic_base) & ~(x2apic_enable | global_enable);
    write_msr(msr_apic_base, base);
    write_msr(msr_apic_base, base | global_enable);
    own().good = true;
}

// --- the start of one

void bench_start() {
    constexpr unsigned starts = 8;
    std::uint64_t ticks = 0;
    // INIT finds it with IF = 1, for the reason that is told above; and behind its start it begins the same
    // work again.
    ready = 0;
    stop = false;
    begin_on_second(second_takes_interrupts);
    wait_until([] { return ready == 1; }, "another processor does not get ready");
    for (unsigned i = 0; i < starts; ++i) {
        const std::uint32_t before = second_arrivals();
        const std::uint64_t begin = read_tsc();
        send_init_to_second();
        send_start_to_second();
        wait_until([&] { return second_arrivals() != before; }, "a processor does not start again");
        ticks += read_tsc() - begin;
    }
    report_smp("init_sipi", ticks / starts);
    stop = true;
    if (!finish_on_second()) give_up("another processor does not come to an end");
}

}  // namespace

void bench_processors() {
    if (!start_second_processor()) return report_text("bare_l1.not_offered", "a second processor");
    const std::uint64_t begin = read_tsc();
    while (read_tsc() - begin < 300'000) asm volatile("pause");
    const PageScope scope;
    report_smp("cpus", others() + 1);
    count_interrupts(vector);
    for (unsigned which = 0; which < others(); ++which) own_of[which].vmxon = new_vmcs_region();
    do_on_all_others(enter_vmx_operation_there, "VMXON on another processor");

    VmcsPlan plan = usual_plan(physical(l2_cpuid_loop), usual_ept().pointer());
    bench_exits_at_once("reflected_exit", plan);
    plan.primary |= primary::use_io_bitmaps | primary::use_msr_bitmaps;
    plan.msr_bitmaps = physical(allocate_page());
    bench_exits_at_once("reflected_exit_bitmaps", plan);
    bench_moves();
    bench_between_l2s();

    constexpr std::uint64_t initial_count = 0x380;
    if (is_in_x2apic_mode()) {
        // From the start, as the processor itself is.
        bench_interrupts("x2apic", 0x800 + initial_count / 16);
        do_on_all_others(leave_vmx_operation_there, "VMXOFF on another processor");
        return bench_start();
    }
    bench_interrupts("xapic", 0xFEE00000 + initial_count);
    do_on_all_others(leave_vmx_operation_there, "VMXOFF on another processor");
    bench_start();

    if ((cpuid(1).ecx >> 21 & 1) == 0) return;
    // At the end: without an L0 there may be no way back (IA32_APIC_BASE.EN).
    do_on_all_others(use_x2apic_there, "x2APIC mode of another processor");
    write_msr(msr_apic_base, read_msr(msr_apic_base) | x2apic_enable);
    use_x2apic(true);
    bench_interrupts("x2apic", 0x800 + initial_count / 16);
    if (!under_flatback()) return;
    use_x2apic(false);
    do_on_all_others(leave_x2apic_there, "xAPIC mode of another processor");
    const std::uint64_t base = read_msr(msr_apic_base) & ~(x2apic_enable | global_enable);
    write_msr(msr_apic_base, base);
    write_msr(msr_apic_base, base | global_enable);
    start_local_apic();
}

}  // namespace flatback::guests
