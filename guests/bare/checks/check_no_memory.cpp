// Where there is no memory, reads give ones and writes vanish, whoever reads and writes there, by which
// instruction, and whatever comes with it: where an L0 hides, and where the machine ends. What one guest
// wrote there is read by nobody.

#include <array>

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/forget.hpp"
#include "guests/bare/l1/interrupts.hpp"
#include "guests/bare/l1/l2_idt.hpp"
#include "guests/bare/l1/linear_tables.hpp"
#include "guests/bare/l1/linear_window.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/memory_program.hpp"
#include "guests/bare/l1/reserved_memory.hpp"
#include "guests/bare/l1/rule.hpp"

extern "C" {
extern char l2_exchange_16_bytes[];
extern char l2_store_string[];
extern char l2_push_and_pop[];
extern char l2_undefined_there[];
extern char l2_sti_and_store[];
extern char l2_store_twice[];
extern char l2_set_cr8[];
extern char l2_get_cr8[];
}

asm(R"(
.pushsection .text
.globl l2_exchange_16_bytes, l2_store_string, l2_push_and_pop, l2_undefined_there, l2_sti_and_store, l2_store_twice
.globl l2_set_cr8, l2_get_cr8
# RDX:RAX = the 16 bytes at RDI, which become RCX:RBX where they were all ones.
l2_exchange_16_bytes:
    movq $-1, %rax
    movq $-1, %rdx
    lock cmpxchg16b (%rdi)
    lock cmpxchg16b (%rdi)
    vmcall
# RCX bytes of zero from RDI on.
l2_store_string:
    xorl %eax, %eax
    rep stosb
    vmcall
l2_push_and_pop:
    movq %rdi, %rsp
    pushq %rbx
    popq %rax
    vmcall
l2_undefined_there:
    movq %rdi, %rsp
    ud2
l2_sti_and_store:
    sti
    movq %rbx, (%rdi)
    nop
    nop
    vmcall
l2_store_twice:
    movq %rbx, (%rdi)
    movq %rbx, (%rdi)
    vmcall
l2_set_cr8:
    movq %rbx, %cr8
    vmcall
l2_get_cr8:
    movq %cr8, %rbx
    vmcall
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint64_t ones = ~std::uint64_t{0};
constexpr std::uint64_t secret = 0x5EC3'E75E'C3E7'5EC3;
constexpr std::uint8_t vector = 0x52;
constexpr std::uint64_t trap_flag = 1U << 8;
constexpr std::uint64_t interrupts_on = 0x202;

// Four linear pages of L2's: two without memory, one of memory, and one that is not there behind one without
// memory.
struct Place {
    std::string_view name;  // of the checks
    std::uint64_t hole;     // two pages
    std::uint64_t edge;     // one without memory, and behind it one that is not present
    Page* memory;           // behind the two pages
};

void expect_ones(Check& check, L2& l2, std::uint64_t address) {
    start(l2, l2_load, address);
    if (check.runs_to(l2, reason::vmcall)) check.equal("what L2 reads", l2.registers.rax, ones);
}

void check_accesses(L2& l2, const Place& place) {
    Line name;
    name << "what-l2-writes-where-there-is-no-memory-vanishes-" << place.name;
    Check check{name.text()};
    for (const std::uint64_t offset : {0x0U, 0x123U, 0xFF8U, 0xFFCU, 0x1FF8U}) {
        start(l2, l2_store, place.hole + offset, secret);
        check.runs_to(l2, reason::vmcall);
        expect_ones(check, l2, place.hole + offset);
    }
    start(l2, l2_add, place.hole + 8, secret);
    check.runs_to(l2, reason::vmcall);
    expect_ones(check, l2, place.hole + 8);

    l2.registers.rcx = secret;
    start(l2, l2_exchange_16_bytes, place.hole + 0x100, secret);
    check.runs_to(l2, reason::vmcall);
    check.equal("the second exchange finds ones", l2.registers.rdx & l2.registers.rax, ones);
    expect_ones(check, l2, place.hole + 0x100);

    l2.registers.rcx = 0x60;
    start(l2, l2_store_string, place.hole + 0xFD0);
    check.runs_to(l2, reason::vmcall);
    check.equal("bytes left", l2.registers.rcx, 0);
    check.equal("the address behind them", l2.registers.rdi, place.hole + 0x1030);
    for (const std::uint64_t offset : {0xFD0U, 0xFF8U, 0x1000U, 0x1028U})
        expect_ones(check, l2, place.hole + offset);

    start(l2, l2_push_and_pop, place.hole + 0x200, secret);
    check.runs_to(l2, reason::vmcall);
    check.equal("what L2 pops", l2.registers.rax, ones);

    // Half of it is memory.
    place.memory->words[0] = 0;
    start(l2, l2_store, place.hole + 0x1FFC, secret);
    check.runs_to(l2, reason::vmcall);
    check.equal("the half that is memory", place.memory->words[0], secret >> 32);
    start(l2, l2_load, place.hole + 0x1FFC);
    check.runs_to(l2, reason::vmcall);
    check.equal("both halves", l2.registers.rax, secret >> 32 << 32 | 0xFFFFFFFF);
}

// What comes with the write, before it or behind it, is as with a write to memory.
void check_events(L2& l2, const Place& place) {
    const std::uint64_t stack_top = physical(allocate_page()) + page_size - 64;
    {
        Line name;
        name << "an-event-whose-frame-vanishes-is-delivered-" << place.name;
        Check check{name.text()};
        use_l2_idt(0);
        start(l2, l2_undefined_there, place.hole + 0x1010);
        check.runs_to(l2, reason::vmcall);
        check.equal("vector", l2.registers.rax, vector_invalid_opcode);
        check.equal("RSP", read(field::guest_rsp), place.hole + 0x1010 - 40);
        for (std::uint64_t offset = 0xFE8; offset < 0x1010; offset += 8)
            expect_ones(check, l2, place.hole + offset);
    }
    {
        Line name;
        name << "an-interrupt-that-sti-keeps-off-comes-behind-a-write-that-vanishes-" << place.name;
        Check check{name.text()};
        use_l2_idt(stack_top);
        send_self_interrupt(vector);
        start(l2, l2_sti_and_store, place.hole, secret);
        check.runs_to(l2, reason::vmcall);
        const L2Frame frame = l2_frame(l2);
        check.equal("vector", frame.vector, vector);
        check.equal("pushed RIP", frame.rip, physical(l2_sti_and_store) + 4);
        check.equal("pushed RFLAGS", frame.rflags & (interrupts_on | trap_flag), interrupts_on);
        end_of_interrupt();
        return_from_l2_event(frame);
        check.runs_to(l2, reason::vmcall);
        check.equal("RIP", read(field::guest_rip), physical(l2_sti_and_store) + 6);
        write(field::guest_rflags, 2);
    }
    {
        Line name;
        name << "a-single-step-trap-of-l2s-comes-behind-a-write-that-vanishes-" << place.name;
        Check check{name.text()};
        use_l2_idt(stack_top);
        start(l2, l2_store_twice, place.hole, secret);
        write(field::guest_rflags, 2 | trap_flag);
        check.runs_to(l2, reason::vmcall);
        const L2Frame frame = l2_frame(l2);
        check.equal("vector", frame.vector, 1);
        check.equal("pushed RIP", frame.rip, physical(l2_store_twice) + 3);
        check.equal("pushed RFLAGS", frame.rflags & trap_flag, trap_flag);
        write(field::exception_bitmap, 1U << 1);
        return_from_l2_event(frame);
        check.runs_to(l2, reason::exception_or_nmi);
        check.equal("RIP", read(field::guest_rip), physical(l2_store_twice) + 6);
        check.equal("qualification", read(field::exit_qualification), 1U << 14);
        write(field::exception_bitmap, 0);
        write(field::guest_rflags, 2);
    }
    for (const bool intercepted : {false, true}) {
        Line name;
        name << "a-write-half-of-which-vanishes-and-half-of-which-faults-is-"
             << (intercepted ? "an-exit-of-l2s-" : "a-page-fault-of-l2s-") << place.name;
        Check check{name.text()};
        use_l2_idt(stack_top);
        write(field::exception_bitmap, intercepted ? 1U << vector_page_fault : 0);
        write(field::guest_rflags, interrupts_on);
        start(l2, l2_store, place.edge + 0xFFC, secret);
        if (intercepted) {
            check.runs_to(l2, reason::exception_or_nmi);
            check.equal("error code", read(field::vm_exit_interruption_error_code), 2);
            check.equal("address", read(field::exit_qualification), place.edge + 0x1000);
            check.equal("RFLAGS", read(field::guest_rflags) & (interrupts_on | trap_flag), interrupts_on);
        } else {
            check.runs_to(l2, reason::vmcall);
            const L2Frame frame = l2_frame(l2);
            check.equal("vector", frame.vector, vector_page_fault);
            check.equal("error code", frame.error_code, 2);
            check.equal("CR2", read_cr2(), place.edge + 0x1000);
            check.equal("pushed RIP", frame.rip, physical(l2_store));
            check.equal("pushed RFLAGS", frame.rflags & (interrupts_on | trap_flag), interrupts_on);
        }
        write(field::exception_bitmap, 0);
        write(field::guest_rflags, 2);
        expect_ones(check, l2, place.edge + 0xFF8);
    }
}

void check_through_ept12(std::uint64_t nothing, std::string_view name) {
    Page* const memory = allocate_page();
    const auto make = [&](Ept12& hierarchy) {
        map_image(hierarchy);
        hierarchy.map(free_window, nothing, EptLevel::page_4k);
        hierarchy.map(free_window + page_size, nothing + page_size, EptLevel::page_4k);
        hierarchy.map(free_window + 2 * page_size, physical(memory), EptLevel::page_4k);
    };
    Ept12 hierarchy;
    make(hierarchy);
    Ept12 other;
    make(other);
    // L2's page tables are this guest's.
    map_linear(0, (free_window + page_size) | linear_page::present | linear_page::writable);
    map_linear(1, 0);
    Line place_name;
    place_name << "by-ept12-" << name;
    {
        L2 l2{usual_plan(0, hierarchy.pointer())};
        const Place place{place_name.text(), free_window, linear_window, memory};
        check_accesses(l2, place);
        check_events(l2, place);
    }
    {
        Line check_name;
        check_name << "no-other-l2-reads-what-one-writes-where-there-is-no-memory-" << name;
        Check check{check_name.text()};
        L2 writer{usual_plan(0, hierarchy.pointer())};
        start(writer, l2_store, free_window, secret);
        check.runs_to(writer, reason::vmcall);
        L2 reader{usual_plan(0, other.pointer())};
        expect_ones(check, reader, free_window);
        expect_ones(check, reader, free_window + page_size);
        hierarchy.map(free_window + 3 * page_size, nothing, EptLevel::page_4k,
                      ept::readable | ept::executable);
        writer.make_current();
        start(writer, l2_store, free_window + 3 * page_size, secret);
        check.runs_to(writer, reason::ept_violation);
    }
    if ((capabilities.ept_vpid >> 21 & 1) == 0) return;
    Line check_name;
    check_name << "accessed-and-dirty-flags-of-ept12-are-set-where-there-is-no-memory-" << name;
    Check check{check_name.text()};
    constexpr std::uint64_t enable_accessed_and_dirty = 1U << 6;
    L2 l2{usual_plan(0, other.pointer() | enable_accessed_and_dirty)};
    const auto flags = [&other] {
        return other.entry(free_window, EptLevel::page_4k) & (ept::accessed | ept::dirty);
    };
    expect_ones(check, l2, free_window);
    check.equal("after a read", flags(), ept::accessed);
    start(l2, l2_store, free_window, secret);
    check.runs_to(l2, reason::vmcall);
    check.equal("after a write", flags(), ept::accessed | ept::dirty);
    expect_ones(check, l2, free_window);
}

void check_without_ept12(std::uint64_t nothing, std::string_view name) {
    LinearTables tables;
    tables.map_image();
    Page* const memory = allocate_page();
    constexpr std::uint64_t rights = linear_page::present | linear_page::writable;
    tables.entry(free_window) = nothing | rights;
    tables.entry(free_window + page_size) = (nothing + page_size) | rights;
    tables.entry(free_window + 2 * page_size) = physical(memory) | rights;
    tables.entry(free_window + 4 * page_size) = nothing | rights;
    tables.entry(free_window + 5 * page_size) = 0;
    forget_all_vpids();
    VmcsPlan plan = usual_plan(0, 0);
    plan.secondary &= ~(secondary::enable_ept | secondary::unrestricted_guest);
    plan.cr3 = tables.root();
    L2 l2{plan};
    Line place_name;
    place_name << "without-ept12-" << name;
    const Place place{place_name.text(), free_window, free_window + 4 * page_size, memory};
    check_accesses(l2, place);
    check_events(l2, place);
}

// The processor writes there past EPT.
void check_virtual_apic_there(std::uint64_t nothing, std::string_view name) {
    if (!capabilities.primary.may_set(primary::use_tpr_shadow)) return;
    Ept12 hierarchy;
    map_image(hierarchy);
    hierarchy.map(free_window, nothing, EptLevel::page_4k);
    L2 l2{usual_plan(0, hierarchy.pointer())};
    write(field::primary_processor_based_vm_execution_controls,
          read(field::primary_processor_based_vm_execution_controls) | primary::use_tpr_shadow);
    write(field::virtual_apic_address, nothing);
    write(field::tpr_threshold, 0);
    Line check_name;
    check_name << "a-virtual-apic-where-there-is-no-memory-keeps-nothing-for-another-entry-" << name;
    Check check{check_name.text()};
    start(l2, l2_set_cr8, 0, 5);
    check.runs_to(l2, reason::vmcall);
    expect_ones(check, l2, free_window + 0x80);
    start(l2, l2_get_cr8, 0);
    check.runs_to(l2, reason::vmcall);
    check.equal("CR8", l2.registers.rbx, 15);
}

void check_by_l1(std::uint64_t nothing, std::string_view name) {
    map_linear(0, nothing | linear_page::present | linear_page::writable);
    map_linear(1, 0);
    auto* const word = static_cast<volatile std::uint64_t*>(window_address(0));
    {
        Line check_name;
        check_name << "what-l1-writes-where-there-is-no-memory-vanishes-" << name;
        Check check{check_name.text()};
        check.equal("before", *word, ones);
        *word = secret;
        check.equal("after", *word, ones);
    }
    {
        Line check_name;
        check_name << "an-interrupt-that-sti-keeps-off-comes-behind-l1s-write-that-vanishes-" << name;
        Check check{check_name.text()};
        const std::uint64_t before = interrupt_count[vector];
        send_self_interrupt(vector);
        asm volatile("sti; movq %1, %0; nop; cli" : "+m"(*word) : "r"(secret) : "memory");
        check.equal("interrupts", interrupt_count[vector] - before, 1);
        check.equal("what L1 reads", *word, ones);
    }
    Line check_name;
    check_name << "l1s-write-half-of-which-vanishes-and-half-of-which-faults-is-a-page-fault-" << name;
    Check check{check_name.text()};
    last_fault.taken = false;
    asm volatile("1: movq %1, (%0)\n2:\n.pushsection .recovery, \"a\"\n.quad 1b, 2b\n.popsection"
                 :
                 : "r"(window_address(0xFFC)), "r"(secret)
                 : "memory");
    check.holds("a fault", last_fault.taken);
    check.equal("vector", last_fault.vector, vector_page_fault);
    check.equal("CR2", last_fault.cr2, linear_window + 0x1000);
    std::uint64_t flags = 0;
    asm volatile("pushfq; popq %0" : "=r"(flags));
    check.equal("TF afterwards", flags & trap_flag, 0);
}

}  // namespace

void check_no_memory() {
    const RuleScope rule{{"", "where there is no memory reads give ones and writes vanish"}};
    count_interrupts(vector);
    const MemoryHole reserved = top_reserved_range();
    const unsigned width = cpuid(0x80000008).eax & 0xFF;
    const std::uint64_t middle = (reserved.begin + (reserved.end - reserved.begin) / 2) & ~(page_size - 1);
    struct Nothing {
        std::string_view name;
        std::uint64_t address;
        bool there;
    };
    const std::array<Nothing, 3> all{{
        {"in-l0s-memory", middle, under_flatback() && reserved.end > reserved.begin},
        {"above-all-memory", 0x3F'C000'0000, width > 38},
        {"above-512-gb", 0x80'C000'0000, width > 39},
    }};
    for (const auto& [name, address, there] : all) {
        if (!there) continue;
        const PageScope scope;
        check_by_l1(address, name);
        if (capabilities.secondary.may_set(secondary::enable_ept)) {
            check_through_ept12(address, name);
            check_virtual_apic_there(address, name);
        }
        check_without_ept12(address, name);
    }
    map_linear(0, 0);
}

}  // namespace flatback::guests
