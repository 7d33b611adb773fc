// A local APIC in x2APIC mode, from the start or because L1 has entered it: its registers are the processor's
// own, so that an L0 need not see them but for interrupt commands. SDM 3A 11.12.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/counters.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/interrupts.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/rule.hpp"
#include "guests/bare/l1/second_processor.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint32_t msr_apic_base = 0x1B;
constexpr std::uint32_t task_priority = 0x808;
constexpr std::uint32_t end_of_interrupt_register = 0x80B;
constexpr std::uint32_t first_request = 0x820;
constexpr std::uint32_t command = 0x830;
constexpr std::uint32_t timer_vector = 0x832;
constexpr std::uint32_t initial_count = 0x838;
constexpr std::uint32_t current_count = 0x839;
constexpr std::uint32_t divide_configuration = 0x83E;
constexpr std::uint32_t self_interrupt = 0x83F;
constexpr std::uint8_t vector = 0x63;
constexpr unsigned times = 50;

std::uint64_t read_cr8() {
    std::uint64_t value = 0;
    asm volatile("movq %%cr8, %0" : "=r"(value));
    return value;
}

void let_interrupts_in() {
    asm volatile("sti; nop; nop; cli" ::: "memory");
}

// Under Flatback; how many exits of L1's `times` of it make.
template <typename Work>
std::uint64_t exits_of(const Work& work) {
    CounterInterval interval;
    for (unsigned time = 0; time < times; ++time) work();
    interval.end();
    return interval.of(Counter::l0_exits);
}

void check_which_make_exits() {
    const RuleScope rule{{"3A 11.12.1.2", "x2APIC registers of a processor in x2APIC mode"}};
    Check check{"x2apic-registers-that-are-the-processors-make-no-exit"};
    check.equal("EOI", exits_of([] { write_msr(end_of_interrupt_register, 0); }), 0);
    check.equal("the timer's initial count", exits_of([] { write_msr(initial_count, 0); }), 0);
    check.equal("the timer's other registers", exits_of([] {
                    write_msr(timer_vector, 0x10000);
                    write_msr(divide_configuration, 0xB);
                    static_cast<void>(read_msr(current_count));
                }),
                0);
    check.equal("the task priority", exits_of([] {
                    write_msr(task_priority, 0x20);
                    static_cast<void>(read_msr(task_priority));
                }),
                0);
    write_msr(task_priority, 0);
    check.equal("what is requested", exits_of([] { static_cast<void>(read_msr(first_request)); }), 0);
    // What an L0 has sent by it is none of L1's.
    check.equal("an interrupt command read", exits_of([] { static_cast<void>(read_msr(command)); }), times);
    check.equal("an interrupt command", exits_of([] { write_msr(command, 0x44000 | vector); }), times);
    let_interrupts_in();
}

void check_registers() {
    const RuleScope rule{{"3A 11.12", "the registers of x2APIC mode"}};
    count_interrupts(vector);
    {
        Check check{"in-x2apic-mode-interrupts-come-and-end"};
        for (unsigned time = 0; time < 3; ++time) {
            const std::uint64_t before = interrupt_count[vector];
            write_msr(self_interrupt, vector);
            check.holds("it is requested", interrupt_requested(vector));
            let_interrupts_in();
            check.equal("it came", interrupt_count[vector], before + 1);
            check.holds("it is in service no more", !interrupt_in_service(vector));
        }
        const std::uint64_t id = read_msr(0x802);
        const std::uint64_t logical_id = (id & 0xFFFF0) << 12 | 1U << (id & 15);
        check.equal("logical destination", read_msr(0x80D), logical_id);
        for (const bool own : {true, false}) {
            const std::uint64_t before = interrupt_count[vector];
            write_msr(command, (own ? logical_id : logical_id ^ 0x8001) << 32 | 0x4800 | vector);
            let_interrupts_in();
            check.equal(own ? "by its logical destination" : "by another one",
                        interrupt_count[vector] - before, own ? 1 : 0);
        }
        write_msr(task_priority, 0x70);
        check.equal("CR8 is the task priority", read_cr8(), 7);
        write_msr(task_priority, 0);
    }
    if (under_flatback()) check_which_make_exits();
    if (!start_second_processor()) return report_text("bare_l1.not_offered", "a second processor");
    {
        Check check{"in-x2apic-mode-another-processor-starts-again"};
        const std::uint32_t before = second_arrivals();
        check.holds("by INIT and SIPI", start_second_processor());
        check.equal("once", second_arrivals(), before + 1);
    }
}

}  // namespace

void check_real_x2apic() {
    if ((cpuid(1).ecx >> 21 & 1) == 0) return report_not_offered("x2apic");
    if (is_in_x2apic_mode()) return check_registers();
    // Without an L0 there may be no way back (IA32_APIC_BASE.EN).
    if (!under_flatback()) return report_text("bare_l1.not_offered", "x2APIC mode from the start");
    const std::uint64_t base = read_msr(msr_apic_base);
    write_msr(msr_apic_base, base | 1U << 10);
    use_x2apic(true);
    check_registers();
    use_x2apic(false);
    write_msr(msr_apic_base, base & ~std::uint64_t{3U << 10});
    write_msr(msr_apic_base, base);
    start_local_apic();
}

}  // namespace flatback::guests
