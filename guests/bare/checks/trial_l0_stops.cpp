// An L0 that ends by a fault of its own on one processor, while the others do what processors do: what it
// then says of each is compared with what is told here (tools/check/l0_stops.hpp). Only an L0 that was built
// for it has the two leaves (tests/metal/stops); on any other this comes to an end that is no failure of
// L0's.

#include <array>

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2.hpp"
#include "guests/bare/l1/second_processor.hpp"

extern "C" {
extern char l1_spins_until_the_end[];
extern char l1_halts_until_the_end[];
extern char l1_spins_until_the_end_end[];
extern char l1_halts_until_the_end_end[];
extern char l2_spins_until_the_end[];
extern char l2_spins_until_the_end_end[];
}

asm(R"(
.pushsection .text
.globl l1_spins_until_the_end, l1_spins_until_the_end_end, l1_halts_until_the_end, l1_halts_until_the_end_end
.globl l2_spins_until_the_end, l2_spins_until_the_end_end
l1_spins_until_the_end:
    pause
    jmp l1_spins_until_the_end
l1_spins_until_the_end_end:
l1_halts_until_the_end:
    cli
    hlt
    jmp l1_halts_until_the_end
l1_halts_until_the_end_end:
l2_spins_until_the_end:
    pause
    jmp l2_spins_until_the_end
l2_spins_until_the_end_end:
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint32_t leaf_of_a_panic = 0x400000FF;
constexpr std::uint32_t leaf_of_an_exception = 0x400000FE;

constexpr unsigned processors_wanted = 5;
// Of the others, by their numbers here.
constexpr unsigned in_l2 = 0;
constexpr unsigned halts = 1;
constexpr unsigned ends_l0 = 2;
constexpr unsigned waits_or_ends_l0 = 3;

std::array<Page*, most_others> vmxon_pages{};
volatile std::uint32_t apic_ids[most_others]{};
std::uint32_t leaf_that_ends_l0 = 0;
volatile std::uint64_t time_of_the_end = 0;  // by the TSC, which all have in common

std::uint32_t own_apic_id() {
    return cpuid(1).ebx >> 24;
}
void tell_identifier() {
    apic_ids[this_other()] = own_apic_id();
}

void runs_an_l2() {
    write_cr0((read_cr0() | capabilities.cr0_fixed0) & capabilities.cr0_fixed1);
    write_cr4((read_cr4() | capabilities.cr4_fixed0 | cr4_vmxe) & capabilities.cr4_fixed1);
    const std::uint64_t address = physical(vmxon_pages[this_other()]);
    if (try_vmxon(&address) != vm_succeed) return;
    L2 l2{usual_plan(physical(l2_spins_until_the_end), usual_ept().pointer())};
    static_cast<void>(l2.run());
}
[[noreturn]] void go_to(const char* code) {
    asm volatile("jmp *%0" : : "r"(code) : "memory");
    __builtin_unreachable();
}
void halts_in_l1() {
    go_to(l1_halts_until_the_end);
}
void ends_it() {
    while (read_tsc() < time_of_the_end) {
    }
    static_cast<void>(cpuid(leaf_that_ends_l0));
}

void wait_ticks(std::uint64_t ticks) {
    const std::uint64_t begin = read_tsc();
    while (read_tsc() - begin < ticks) asm volatile("pause");
}

void tell(std::uint32_t apic_id, std::string_view where, std::uint64_t begin, std::uint64_t end) {
    Line key;
    key << "l0_stops." << std::uint64_t{apic_id};
    Line text;
    text << where << " ";
    text.hexadecimal(begin);
    text << " ";
    text.hexadecimal(end);
    report_text(key.text(), text.text());
}

// two: at the same time, as well as the processor of an emulator can.
void end_l0(std::uint32_t leaf, bool two) {
    if (!start_second_processor()) leave_part("no second processor");
    wait_ticks(300'000);
    if (others() + 1 < processors_wanted) leave_part("fewer processors than it takes");
    const PageScope scope;
    leaf_that_ends_l0 = leaf;
    for (unsigned which = 0; which < others(); ++which) {
        vmxon_pages[which] = new_vmcs_region();
        if (!do_on_other(which, tell_identifier)) leave_part("a processor does not answer");
    }
    begin_on_other(in_l2, runs_an_l2);
    begin_on_other(halts, halts_in_l1);
    if (!two) send_init_to_other(waits_or_ends_l0);
    constexpr std::uint64_t until_all_are_there = 100'000;
    wait_ticks(until_all_are_there);
    if (has_finished(in_l2)) leave_part("the L2 of another processor does not run");

    tell(own_apic_id(), "L1", physical(l1_spins_until_the_end), physical(l1_spins_until_the_end_end));
    tell(apic_ids[in_l2], "L2", physical(l2_spins_until_the_end), physical(l2_spins_until_the_end_end));
    tell(apic_ids[halts], "L1", physical(l1_halts_until_the_end), physical(l1_halts_until_the_end_end));
    tell(apic_ids[ends_l0], two ? "ends" : "ends-alone", 0, 0);
    tell(apic_ids[waits_or_ends_l0], two ? "ends" : "waits", 0, 0);
    constexpr std::uint64_t until_this_one_spins = 50'000;
    time_of_the_end = read_tsc() + until_this_one_spins;
    begin_on_other(ends_l0, ends_it);
    if (two) begin_on_other(waits_or_ends_l0, ends_it);
    go_to(l1_spins_until_the_end);
}

void by_a_panic() {
    end_l0(leaf_of_a_panic, false);
}
void by_an_exception() {
    end_l0(leaf_of_an_exception, false);
}
void by_two_at_once() {
    end_l0(leaf_of_a_panic, true);
}

constexpr Part parts[] = {{"l0-stops-by-a-panic", by_a_panic},
                          {"l0-stops-by-an-exception", by_an_exception},
                          {"l0-stops-by-two-at-once", by_two_at_once}};

}  // namespace

std::span<const Part> l0_stopping_parts() {
    return parts;
}

}  // namespace flatback::guests
