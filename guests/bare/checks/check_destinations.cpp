// Whom an interrupt command reaches: logical destinations, shorthands, x2APIC mode. SDM 3A 11.6.2, 11.12.10.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/checks/destinations.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/counters.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/interrupts.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/report.hpp"
#include "guests/bare/l1/rule.hpp"
#include "guests/bare/l1/second_processor.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint8_t vector = 0x54;
constexpr std::uint32_t fixed = 0x4000 | vector;
constexpr std::uint32_t init = 0x4500;
constexpr std::uint32_t msr_apic_base = 0x1B;
constexpr std::uint32_t msr_command = 0x830;

volatile std::uint64_t got = 0;
void second_waits_for_interrupt() {
    const std::uint64_t before = interrupt_count[vector];
    asm volatile("sti" ::: "memory");
    wait_ticks(60'000);
    asm volatile("cli" ::: "memory");
    got = interrupt_count[vector] - before;
}

volatile unsigned works = 0;
void second_works() {
    works = works + 1;
}

// send(command): with a destination that names the second processor, or does not.
template <typename Send>
void expect_interrupt(Check& check, std::uint64_t times, Send&& send) {
    begin_on_second(second_waits_for_interrupt);
    wait_ticks(20'000);
    send(fixed);
    check.holds("it comes to an end", finish_on_second());
    check.equal("interrupts", got, times);
}
template <typename Send>
void expect_init(Check& check, bool reached, Send&& send) {
    works = 0;
    const std::uint32_t before = second_arrivals();
    send(init);
    begin_on_second(second_works);
    wait_ticks(50'000);
    check.equal("work done behind INIT", works, reached ? 0 : 1);
    begin_on_second(nullptr);
    send_start_to_second();
    wait_ticks(100'000);
    check.equal("starts", second_arrivals() - before, reached ? 1 : 0);
    check.holds("it works", do_on_second(second_works));
}

void check_logical(std::string_view name, std::uint32_t format, std::uint32_t hit, std::uint32_t missed) {
    Line title;
    title << "a-logical-destination-names-a-processor-" << name;
    Check check{title.text()};
    for (const std::uint32_t destination : {hit, missed}) {
        const bool reached = destination == hit;
        const auto send = [destination](std::uint32_t command) {
            send_command(destination, command | logical);
        };
        take_places(format);
        expect_interrupt(check, reached ? 1 : 0, send);
        expect_init(check, reached, send);
    }
}

void check_shorthand(const char* name) {
    Check check{name};
    const auto send = [](std::uint32_t command) { send_command(0, command | to_all_others); };
    expect_interrupt(check, 1, send);
    expect_init(check, true, send);
}

// Only with an L0: the emulator's own APIC does not come back.
void check_x2apic() {
    const std::uint64_t base = read_msr(msr_apic_base);
    write_msr(msr_apic_base, base | 1U << 10);
    use_x2apic(true);
    const std::uint64_t id = second_apic_identifier();
    const std::uint64_t own_logical = (id >> 4) << 16 | std::uint64_t{1} << (id & 15);
    struct Way {
        std::string_view name;
        std::uint64_t destination;
        std::uint32_t bits;
        bool reached;
    };
    for (const Way& way : {Way{"its-identifier", id, 0, true}, Way{"another-identifier", 0x1234, 0, false},
                           Way{"its-logical-one", own_logical, logical, true},
                           Way{"another-clusters", own_logical + (1U << 16), logical, false},
                           Way{"the-shorthand-of-all-others", 0, to_all_others, true}}) {
        Line title;
        title << "in-x2apic-mode-a-command-goes-by-" << way.name;
        Check check{title.text()};
        const auto send = [&way](std::uint32_t command) {
            write_msr(msr_command, way.destination << 32 | command | way.bits);
        };
        expect_init(check, way.reached, send);
        if (way.bits == to_all_others) continue;  // they acknowledge as the first one's mode has it
        send(0x4400 | way.bits);
        wait_ticks(20'000);
        check.holds("it works behind an NMI", do_on_second(second_works));
    }
    use_x2apic(false);
    write_msr(msr_apic_base, base & ~std::uint64_t{3U << 10});
    write_msr(msr_apic_base, base);
    start_local_apic();
}

void second_goes_through_x2apic_mode() {
    const std::uint64_t base = read_msr(msr_apic_base);
    write_msr(msr_apic_base, base | 1U << 10);
    write_msr(msr_apic_base, base & ~std::uint64_t{3U << 10});
    write_msr(msr_apic_base, base);
    start_own_local_apic();
}

// xAPIC mode again, in which an L0 may have the registers where a processor has none: on one, then on both.
void check_behind_x2apic() {
    check_logical("of-8-bits-behind-x2apic-mode-of-the-other", flat, second_is & ~first_is, 0x20);
    static_cast<void>(do_on_second(second_goes_through_x2apic_mode));
    check_logical("of-8-bits-behind-x2apic-mode", flat, second_is & ~first_is, 0x20);
    check_logical("of-a-cluster-behind-x2apic-mode", clusters, second_is, 0x22);
    take_places(flat);
    check_shorthand("the-shorthand-of-all-others-reaches-all-others-behind-x2apic-mode");
    write_apic_register(logical_destination, 0);
}

}  // namespace

void check_destinations() {
    const RuleScope rule{{"3A 11.6.2", "the destination of an interrupt command"}};
    if (!start_second_processor()) return report_text("bare_l1.not_offered", "a second processor");
    count_interrupts(vector);
    count_interrupts(vector_nmi);
    check_logical("of-8-bits", flat, second_is & ~first_is, 0x20);
    check_logical("of-a-cluster", clusters, second_is, 0x22);
    take_places(flat);
    check_shorthand("the-shorthand-of-all-others-reaches-all-others");
    write_apic_register(logical_destination, 0);
    if (!under_flatback() || (cpuid(1).ecx >> 21 & 1) == 0) return;
    check_x2apic();
    check_behind_x2apic();
}

}  // namespace flatback::guests
