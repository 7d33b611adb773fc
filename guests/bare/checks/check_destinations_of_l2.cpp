// Interrupts and NMIs that an L2 with the local APIC sends, by each way to say to whom. SDM 3A 11.6.1,
// 11.6.2, 11.12.9.

#include <array>

#include "guests/bare/catalogue.hpp"
#include "guests/bare/checks/destinations.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/counters.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/interrupts.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/memory_program.hpp"
#include "guests/bare/l1/report.hpp"
#include "guests/bare/l1/rule.hpp"
#include "guests/bare/l1/second_processor.hpp"

extern "C" {
extern char l2_send_command[];  // check_apic_of_l2.cpp
extern char l2_send_to_x2apic[];
}

asm(R"(
.pushsection .text
.globl l2_send_to_x2apic
# EBX: interrupt command, bits 63:32; ECX: bits 31:0.
l2_send_to_x2apic:
    movl %ecx, %eax
    movl %ebx, %edx
    movl $0x830, %ecx
    wrmsr
    vmcall
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint8_t vector = 0x56;
constexpr std::uint32_t fixed = 0x4000 | vector;
constexpr std::uint32_t lowest_priority = 0x4100 | vector;
constexpr std::uint32_t command_nmi = 0x4400;
constexpr std::uint32_t to_itself = 1U << 18;
constexpr std::uint32_t to_all = 2U << 18;

constexpr std::uint32_t msr_apic_base = 0x1B;
constexpr std::uint32_t x2apic_enable = 1U << 10;

void let_interrupts_in() {
    asm volatile("sti; nop; nop; cli" ::: "memory");
}

// Whose an interrupt is its own APIC tells: what is counted (interrupts.hpp) is both processors'.
volatile bool requested_of_other = false;
volatile std::uint64_t nmis = 0;
void second_waits() {
    const std::uint64_t before = interrupt_count[vector_nmi];
    wait_ticks(60'000);
    requested_of_other = interrupt_requested(vector);
    let_interrupts_in();
    nmis = interrupt_count[vector_nmi] - before;
}

// To whom, and who of the two is meant.
struct Way {
    std::string_view name;
    std::uint64_t destination;  // bits 63:32 of the command
    std::uint32_t bits;
    bool own;
    bool other;
    bool fixed_only = false;  // SDM 3A table 11-3
};

// How L2 has the APIC.
struct Access {
    std::string_view name;
    L2& l2;
    const char* program;
};

// The commands of one way: interrupts wait for L1, an NMI exits.
void expect(Check& check, const Access& access, const Way& way, std::uint32_t command) {
    const bool is_nmi = command == command_nmi;
    begin_on_second(second_waits);
    wait_ticks(20'000);
    start(access.l2, access.program, free_window, way.destination);
    access.l2.registers.rcx = command | way.bits;
    if (is_nmi && way.own) {
        check.runs_to(access.l2, reason::exception_or_nmi);
        check.equal("what exits", read(field::vm_exit_interruption_information) & 0x7FF, 0x200 | vector_nmi);
        unblock_nmi();
        // There are processors that have saved L2 as one whose NMIs are blocked by the very one that exits.
        write(field::guest_interruptibility_state, 0);
    }
    check.runs_to(access.l2, reason::vmcall);
    check.equal("an interrupt here", interrupt_requested(vector) ? 1 : 0, !is_nmi && way.own ? 1 : 0);
    let_interrupts_in();
    check.holds("none any more", !interrupt_requested(vector));
    check.holds("the other comes to an end", finish_on_second());
    check.equal("an interrupt there", requested_of_other ? 1 : 0, !is_nmi && way.other ? 1 : 0);
    check.equal("NMIs that did not exit", nmis, is_nmi && way.other ? 1 : 0);
}

void check_way(const Access& access, const Way& way) {
    const auto check_kind = [&](std::string_view kind, std::uint32_t command) {
        Line name;
        name << "an-l2-" << access.name << "-sends-" << kind << "-to-" << way.name;
        Check check{name.text()};
        expect(check, access, way, command);
    };
    check_kind("an-interrupt", fixed);
    if (!way.fixed_only) check_kind("an-nmi", command_nmi);
    // One of those that are meant gets it: here it is one.
    if ((way.bits & logical) != 0 && way.own != way.other)
        check_kind("an-interrupt-of-lowest-priority", lowest_priority);
}

VmcsPlan plan_with_nmi_exiting(std::uint64_t ept_pointer) {
    VmcsPlan plan = usual_plan(0, ept_pointer);
    plan.pin |= pin::nmi_exiting;
    return plan;
}

void second_leaves_its_place() {
    write_apic_register(destination_format, flat);
    write_apic_register(logical_destination, 0);
}

constexpr std::uint32_t at(std::uint32_t eight_bits) {
    return eight_bits << 24;
}

void check_page() {
    const PageScope scope;
    Ept12 hierarchy;
    map_image(hierarchy);
    hierarchy.map(free_window, apic_page, EptLevel::page_4k);
    L2 l2{plan_with_nmi_exiting(hierarchy.pointer())};
    const Access access{"with-the-apic", l2, l2_send_command};
    const std::uint32_t own_id = read_apic_register(0x20) >> 24;
    for (const Way& way : std::array{Way{"an-identifier", at(second_apic_identifier()), 0, false, true},
                                     Way{"its-own-identifier", at(own_id), 0, true, false},
                                     Way{"an-identifier-of-nobody", at(0x0E), 0, false, false},
                                     Way{"itself-by-shorthand", 0, to_itself, true, false, true},
                                     Way{"all-by-shorthand", 0, to_all, true, true, true},
                                     Way{"all-others-by-shorthand", 0, to_all_others, false, true}}) {
        check_way(access, way);
    }
    take_places(flat);
    for (const Way& way : std::array{Way{"another-by-a-flat-destination", at(0x02), logical, false, true},
                                     Way{"itself-by-a-flat-destination", at(0x01), logical, true, false},
                                     Way{"both-by-a-flat-destination", at(0x10), logical, true, true},
                                     Way{"nobody-by-a-flat-destination", at(0x20), logical, false, false}}) {
        check_way(access, way);
    }
    take_places(clusters);
    for (const Way& way : std::array{Way{"another-in-its-cluster", at(0x12), logical, false, true},
                                     Way{"both-in-its-cluster", at(0x13), logical, true, true},
                                     Way{"nobody-in-another-cluster", at(0x23), logical, false, false}}) {
        check_way(access, way);
    }
    write_apic_register(destination_format, flat);
    write_apic_register(logical_destination, 0);
    static_cast<void>(do_on_second(second_leaves_its_place));
}

void second_enters_x2apic_mode() {
    write_msr(msr_apic_base, read_msr(msr_apic_base) | x2apic_enable);
}
void second_leaves_x2apic_mode() {
    const std::uint64_t base = read_msr(msr_apic_base) & ~std::uint64_t{x2apic_enable};
    write_msr(msr_apic_base, base & ~std::uint64_t{3U << 10});
    write_msr(msr_apic_base, base);
    start_own_local_apic();
}

// Only with an L0: the emulator's own APIC does not come back from it.
void check_x2apic_registers() {
    static_cast<void>(do_on_second(second_enters_x2apic_mode));
    const std::uint64_t base = read_msr(msr_apic_base);
    write_msr(msr_apic_base, base | x2apic_enable);
    use_x2apic(true);
    {
        const PageScope scope;
        VmcsPlan plan = plan_with_nmi_exiting(usual_ept().pointer());
        plan.primary |= primary::use_msr_bitmaps;
        plan.msr_bitmaps = physical(allocate_page());
        L2 l2{plan};
        const Access access{"with-the-x2apic-registers", l2, l2_send_to_x2apic};
        const auto logical_of = [](std::uint64_t id) {
            return (id >> 4) << 16 | std::uint64_t{1} << (id & 15);
        };
        const std::uint64_t own = read_msr(0x802);
        const std::uint64_t other = second_apic_identifier();
        for (const Way& way : std::array{
                 Way{"an-identifier", other, 0, false, true}, Way{"its-own-identifier", own, 0, true, false},
                 Way{"an-identifier-of-nobody", 0x1234, 0, false, false},
                 Way{"another-by-its-logical-one", logical_of(other), logical, false, true},
                 Way{"itself-by-its-logical-one", logical_of(own), logical, true, false},
                 Way{"both-by-their-logical-ones", logical_of(other) | logical_of(own), logical, true, true},
                 Way{"nobody-in-another-cluster", logical_of(other) + (1U << 16), logical, false, false},
                 Way{"itself-by-shorthand", 0, to_itself, true, false, true},
                 Way{"all-by-shorthand", 0, to_all, true, true, true},
                 Way{"all-others-by-shorthand", 0, to_all_others, false, true}}) {
            check_way(access, way);
        }
    }
    use_x2apic(false);
    write_msr(msr_apic_base, base & ~std::uint64_t{3U << 10});
    write_msr(msr_apic_base, base);
    start_local_apic();
    static_cast<void>(do_on_second(second_leaves_x2apic_mode));
}

}  // namespace

void check_destinations_of_l2() {
    const RuleScope rule{{"3A 11.6.2", "what a guest with the local APIC sends reaches whom it means"}};
    if (!start_second_processor()) return report_text("bare_l1.not_offered", "a second processor");
    if (!capabilities.pin.may_set(pin::nmi_exiting) || !capabilities.secondary.may_set(secondary::enable_ept))
        return report_not_offered("NMI exiting and EPT");
    count_interrupts(vector);
    count_interrupts(vector_nmi);
    check_page();
    if (under_flatback() && (cpuid(1).ecx >> 21 & 1) != 0) check_x2apic_registers();
}

}  // namespace flatback::guests
