// Another processor: how it starts, VMX operation of its own, and L2s that go from one to the other. SDM
// 3A 9.4, 3C 24.8, 25.11.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/counters.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/forget.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/linear_tables.hpp"
#include "guests/bare/l1/linear_window.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/memory_program.hpp"
#include "guests/bare/l1/report.hpp"
#include "guests/bare/l1/rule.hpp"
#include "guests/bare/l1/second_processor.hpp"
#include "x86/control_registers.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint8_t ipi_vector = 0x51;
constexpr std::uint32_t command_fixed = 0x4000;
constexpr std::uint32_t command_nmi = 0x4400;

// What the other processor does, and what it found. It reports nothing by itself.
Page* second_vmxon_page = nullptr;
volatile std::uint64_t seen = 0;
L2* shared_l2 = nullptr;

void second_enters_vmx_operation() {
    write_cr0((read_cr0() | capabilities.cr0_fixed0) & capabilities.cr0_fixed1);
    write_cr4((read_cr4() | capabilities.cr4_fixed0 | cr4_vmxe) & capabilities.cr4_fixed1);
    const std::uint64_t address = physical(second_vmxon_page);
    seen = try_vmxon(&address) == vm_succeed ? 1 : 0;
}

void second_leaves_vmx_operation() {
    seen = try_vmxoff() == vm_succeed ? 1 : 0;
}

// Takes over an L2 that the first processor has cleared: its host state is this processor's from now on.
void second_runs_shared_l2() {
    shared_l2->make_current();
    write_own_host_state();
    seen = shared_l2->run();
}

void second_clears_shared_l2() {
    shared_l2->clear();
}

void second_runs_own_l2s() {
    constexpr unsigned entries = 100;
    L2 l2{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
    unsigned good = 0;
    for (unsigned entry = 0; entry < entries; ++entry) {
        if (l2.run() == reason::vmcall) ++good;
        L2::skip_instruction();
        write(field::guest_rip, physical(l2_vmcall_loop));
    }
    l2.clear();
    seen = good;
}

void second_waits_for_interrupt() {
    seen = 0;
    const std::uint64_t before = interrupt_count[ipi_vector];
    asm volatile("sti" ::: "memory");
    const std::uint64_t start = read_tsc();
    while (interrupt_count[ipi_vector] == before && read_tsc() - start < 1'000'000) asm volatile("pause");
    asm volatile("cli" ::: "memory");
    seen = interrupt_count[ipi_vector] - before;
}

void second_waits_for_nmi() {
    constexpr std::uint8_t vector_nmi = 2;
    seen = 0;
    const std::uint64_t before = interrupt_count[vector_nmi];
    const std::uint64_t start = read_tsc();
    while (interrupt_count[vector_nmi] == before && read_tsc() - start < 1'000'000) asm volatile("pause");
    seen = interrupt_count[vector_nmi] - before;
}

void wait_ticks(std::uint64_t ticks) {
    const std::uint64_t start = read_tsc();
    while (read_tsc() - start < ticks) asm volatile("pause");
}

void check_start() {
    const RuleScope rule{{"3A 9.4.4", "INIT and SIPI start a processor in real mode"}};
    {
        Check check{"a-second-processor-finds-what-init-leaves"};
        check.equal("EDX", second_edx(), cpuid(1).eax);
        check.known({"EDX is 0 behind INIT", Deviation::Seen::directly});
        check.equal("CR0", second_cr0() & ~std::uint32_t{0x6000'0000}, 0x10);
    }
    Check check{"a-sipi-has-no-effect-on-a-processor-that-runs"};
    const std::uint32_t before = second_arrivals();
    send_start_to_second();
    wait_ticks(50'000);
    check.equal("starts", second_arrivals() - before, 0);
}

void check_own_vmx_operation() {
    const RuleScope rule{{"3C 24.7", "VMX operation is a processor's own"}};
    second_vmxon_page = new_vmcs_region();
    {
        Check check{"a-second-processor-enters-vmx-operation"};
        check.holds("it comes to an end", do_on_second(second_enters_vmx_operation));
        check.equal("VMXON", seen, 1);
    }
    {
        Check check{"a-second-processor-runs-an-l2-of-its-own"};
        L2 l2{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
        begin_on_second(second_runs_own_l2s);
        for (unsigned entry = 0; entry < 50; ++entry) check.runs_to(l2, reason::vmcall);
        check.holds("it comes to an end", finish_on_second());
        check.equal("entries", seen, 100);
    }
}

std::uint64_t entries_of(std::uint32_t whose) {
    const CpuidResult leaf =
        cpuid(interface::counter_leaf,
              interface::counter_of(whose, static_cast<std::uint32_t>(Counter::l2_entries)));
    return leaf.eax | std::uint64_t{leaf.edx} << 32;
}
bool is_a_processor(std::uint32_t number) {
    return cpuid(interface::counter_leaf, interface::counter_of(interface::of_processor(number), 0)).ebx == 1;
}
void second_reads_its_counter() {
    seen = entries_of(interface::of_this_processor);
}

void check_counters() {
    if (!under_flatback()) return;
    const RuleScope rule{{"", "L0 counts for each processor and in sum"}};
    const std::uint64_t own = entries_of(interface::of_this_processor);
    Check check{"counters-are-each-processors-own-and-there-is-their-sum"};
    check.holds("it comes to an end", do_on_second(second_reads_its_counter));
    const std::uint64_t before = seen;
    check.holds("it comes to an end",
                do_on_second(second_runs_own_l2s) && do_on_second(second_reads_its_counter));
    check.equal("of the other", seen, before + 100);
    check.equal("of this one", entries_of(interface::of_this_processor), own);
    std::uint64_t sum = 0;
    unsigned like_own = 0;
    unsigned like_seen = 0;
    std::uint32_t number = 0;
    for (; is_a_processor(number); ++number) {
        const std::uint64_t entries = entries_of(interface::of_processor(number));
        sum += entries;
        if (entries == own) ++like_own;
        if (entries == seen) ++like_seen;
    }
    check.holds("two or more", number >= 2);
    check.equal("of this one by its number", like_own, 1);
    check.equal("of the other by its number", like_seen, 1);
    check.equal("in sum", entries_of(interface::of_all_processors), sum);
}

void check_moves() {
    const RuleScope rule{{"3C 25.11.1", "a VMCS goes to another processor by VMCLEAR and VMPTRLD"}};
    Check check{"an-l2-moves-from-processor-to-processor"};
    L2 l2{usual_plan(physical(l2_cpuid_loop), usual_ept().pointer())};
    shared_l2 = &l2;
    for (unsigned move = 0; move < 8; ++move) {
        check.runs_past(l2, reason::cpuid);
        check.runs_to(l2, reason::cpuid);
        l2.clear();
        check.holds("it comes to an end", do_on_second(second_runs_shared_l2));
        check.equal("exit reason there", seen, reason::cpuid);
        check.holds("it comes to an end", do_on_second(second_clears_shared_l2));
        l2.make_current();
        write_own_host_state();
    }
}

// --- what one processor edits under an L2 that another runs

const VmcsPlan* plan_of_reader = nullptr;
void (*forget_on_reader)() = nullptr;
std::uint64_t ept_of_reader = 0;
constexpr std::uint64_t first_value = 1000;
// Of the last edit: begun by the first processor, and acknowledged by the second behind its invalidation.
volatile std::uint64_t begun = 0;
volatile std::uint64_t acknowledged = 0;
volatile std::uint64_t asked = 0;
volatile std::uint64_t reads = 0;  // that no edit was under way at
volatile std::uint64_t stale_reads = 0;
volatile bool reader_stops = false;

void second_reads_what_is_edited() {
    L2 l2{*plan_of_reader};
    while (!reader_stops) {
        start(l2, l2_load, free_window);
        const bool settled = begun == acknowledged;
        const std::uint64_t last = acknowledged;
        if (l2.run() != reason::vmcall) break;
        if (settled && begun == last) {
            reads = reads + 1;
            if (l2.registers.rax != first_value + last % 2) stale_reads = stale_reads + 1;
        }
        if (asked != acknowledged) {
            forget_on_reader();
            acknowledged = asked;
        }
    }
    l2.clear();
}

// edit(frame): what L2 reads at free_window comes from there from now on.
template <typename Edit>
void expect_no_stale_read(const char* name, const VmcsPlan& plan, void (*forget)(), Edit&& edit) {
    Check check{name};
    Page* const frames[] = {allocate_page(), allocate_page()};
    for (std::uint64_t i = 0; i < 2; ++i) frames[i]->words[0] = first_value + i;
    edit(physical(frames[0]));
    plan_of_reader = &plan;
    forget_on_reader = forget;
    for (volatile std::uint64_t* const each : {&begun, &acknowledged, &asked, &reads, &stale_reads})
        *each = 0;
    reader_stops = false;
    const auto wait_for = [](const auto& condition) {
        const std::uint64_t start = read_tsc();
        while (!condition() && read_tsc() - start < 20'000'000) asm volatile("pause");
        return condition();
    };
    begin_on_second(second_reads_what_is_edited);
    constexpr std::uint64_t edits = 20;
    for (std::uint64_t number = 1; number <= edits; ++number) {
        const std::uint64_t before = reads;
        if (!wait_for([before] { return reads >= before + 3; })) break;
        begun = number;
        edit(physical(frames[number % 2]));
        asked = number;
        if (!wait_for([number] { return acknowledged == number; })) break;
    }
    const std::uint64_t before = reads;
    check.holds("L2 reads behind the last", wait_for([before] { return reads >= before + 3; }));
    reader_stops = true;
    check.holds("it comes to an end", finish_on_second());
    check.equal("edits", acknowledged, edits);
    check.equal("stale reads", stale_reads, 0);
}

void check_shootdown() {
    const RuleScope rule{{"3C 29.4.3", "INVEPT and INVVPID act on the processor that executes them"}};
    if (capabilities.has_invept() && capabilities.secondary.may_set(secondary::enable_ept)) {
        const PageScope scope;
        static Ept12* hierarchy_of_reader = nullptr;
        Ept12 hierarchy;
        hierarchy_of_reader = &hierarchy;
        map_image(hierarchy);
        hierarchy.map(free_window, 0, EptLevel::page_4k);
        ept_of_reader = hierarchy.pointer();
        const VmcsPlan plan = usual_plan(physical(l2_load), ept_of_reader);
        expect_no_stale_read(
            "an-l2-on-another-processor-reads-nothing-stale-behind-its-invept", plan,
            [] { forget_ept(ept_of_reader); },
            [](std::uint64_t frame) {
                auto& entry = hierarchy_of_reader->entry(free_window, EptLevel::page_4k);
                entry = (entry & (page_size - 1)) | frame;
            });
    }
    const PageScope scope;
    static LinearTables* tables_of_reader = nullptr;
    LinearTables tables;
    tables_of_reader = &tables;
    tables.map_image();
    VmcsPlan plan = usual_plan(physical(l2_load), usual_ept().pointer());
    plan.cr3 = tables.root();
    expect_no_stale_read(
        "an-l2-on-another-processor-reads-nothing-stale-behind-its-invvpid", plan, [] { forget_vpid(1); },
        [](std::uint64_t frame) {
            tables_of_reader->entry(free_window) = frame | linear_page::present | linear_page::writable;
        });
}

void check_interrupts_between() {
    const RuleScope rule{{"3A 11.6", "a processor sends interrupts to another"}};
    count_interrupts(ipi_vector);
    {
        Check check{"a-fixed-interrupt-reaches-the-second-processor-once"};
        begin_on_second(second_waits_for_interrupt);
        wait_ticks(20'000);
        send_to_second(command_fixed | ipi_vector);
        check.holds("it comes to an end", finish_on_second());
        check.equal("interrupts", seen, 1);
    }
    constexpr std::uint8_t vector_nmi = 2;
    count_interrupts(vector_nmi);
    Check check{"an-nmi-reaches-the-second-processor-once"};
    begin_on_second(second_waits_for_nmi);
    wait_ticks(20'000);
    send_to_second(command_nmi);
    check.holds("it comes to an end", finish_on_second());
    check.equal("NMIs", seen, 1);
}

void second_halts() {
    for (;;) asm volatile("cli; hlt");
}

void second_meets_init_in_vmx_operation() {
    // Sent while it is here, in root operation: it waits for the L2.
    wait_ticks(100'000);
    L2 l2{usual_plan(physical(l2_cpuid_loop), usual_ept().pointer())};
    seen = l2.run();
    l2.clear();
}

void check_init_of_halted() {
    Check check{"an-init-reaches-a-processor-that-halts-with-interrupts-off"};
    begin_on_second(second_halts);
    wait_ticks(50'000);
    const std::uint32_t before = second_arrivals();
    begin_on_second(nullptr);
    send_init_to_second();
    wait_ticks(50'000);
    check.equal("starts before SIPI", second_arrivals() - before, 0);
    send_start_to_second();
    wait_ticks(100'000);
    check.equal("starts after it", second_arrivals() - before, 1);
    check.holds("it works again", do_on_second(second_enters_vmx_operation));
    check.equal("VMXON", seen, 1);
    check.holds("it comes to an end", do_on_second(second_leaves_vmx_operation));
}

void check_init() {
    const RuleScope rule{{"3C 24.8", "INIT waits in VMX root operation, exits from an L2, and else resets"}};
    if (!under_flatback()) {  // the emulator loses the first and repeats the second for ever
        static_cast<void>(do_on_second(second_leaves_vmx_operation));
        return;
    }
    {
        Check check{"an-init-that-meets-root-operation-exits-from-the-next-l2"};
        const std::uint32_t before = second_arrivals();
        begin_on_second(second_meets_init_in_vmx_operation);
        wait_ticks(20'000);
        send_init_to_second();
        check.holds("it comes to an end", finish_on_second());
        check.equal("exit reason", seen, reason::init_signal);
        check.equal("starts", second_arrivals() - before, 0);
    }
    Check check{"an-init-outside-of-vmx-operation-makes-it-wait-for-sipi"};
    check.holds("it comes to an end", do_on_second(second_leaves_vmx_operation));
    check.equal("VMXOFF", seen, 1);
    const std::uint32_t before = second_arrivals();
    send_init_to_second();
    wait_ticks(50'000);
    begin_on_second(second_waits_for_nmi);
    wait_ticks(50'000);
    check.equal("starts before SIPI", second_arrivals() - before, 0);
    begin_on_second(nullptr);
    send_start_to_second();
    wait_ticks(100'000);
    check.equal("starts after it", second_arrivals() - before, 1);
    // It had cleared both (SDM 3A table 10-1: INIT leaves them).
    check.equal("CR0.CD and NW", second_cr0() & (x86::cr0::cache_disable | x86::cr0::not_write_through), 0);
    check.holds("it works again", do_on_second(second_enters_vmx_operation));
    check.equal("VMXON", seen, 1);
    check.holds("it comes to an end", do_on_second(second_leaves_vmx_operation));
    check_init_of_halted();
}

}  // namespace

void check_processors() {
    if (!start_second_processor()) {
        report_text("bare_l1.not_offered", "a second processor");
        return;
    }
    Check{"a-second-processor-starts-by-init-and-sipi"}.equal("starts", second_arrivals(), 1);
    check_start();
    check_own_vmx_operation();
    check_counters();
    check_interrupts_between();
    check_moves();
    check_shootdown();
    check_init();
}

}  // namespace flatback::guests
