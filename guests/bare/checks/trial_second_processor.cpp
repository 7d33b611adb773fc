// What another processor than the first may do to the whole machine: shut down, and ask for a reset. On a PC
// the chipset answers a processor's shutdown with a reset of all, so that either ends this guest.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/port.hpp"
#include "guests/bare/l1/report.hpp"
#include "guests/bare/l1/second_processor.hpp"
#include "guests/bare/l1/watchdog.hpp"

namespace flatback::guests {
namespace {

struct [[gnu::packed]] TablePointer {
    std::uint16_t limit;
    std::uint64_t base;
};

// No exception can be delivered, nor the double fault that comes of it (SDM 3A 6.15, interrupt 8).
[[noreturn]] void shut_down() {
    const TablePointer nothing{0, 0};
    asm volatile("lidt %0\n\tud2" : : "m"(nothing) : "memory");
    __builtin_unreachable();
}

// The chipset's reset control register: a hard reset.
[[noreturn]] void reset_the_machine() {
    constexpr std::uint16_t reset_control = 0xCF9;
    out_byte(reset_control, 2);
    out_byte(reset_control, 6);
    for (;;) asm volatile("pause");
}

// The first is in an L2 all the time meanwhile.
template <void (*What)()>
void have_second_do() {
    if (!start_second_processor()) leave_part("no second processor");
    watchdog::stop();
    L2 l2{usual_plan(physical(l2_cpuid_loop), usual_ept().pointer())};
    begin_on_second(What);
    constexpr unsigned many = 100'000;
    for (unsigned entry = 0; entry < many; ++entry) {
        run_or_die(l2, reason::cpuid);
        L2::skip_instruction();
    }
    report_pass("the-first-processor-goes-on");
}

constexpr Part parts[] = {{"second-processor-shuts-down", have_second_do<shut_down>},
                          {"second-processor-resets-the-machine", have_second_do<reset_the_machine>}};

}  // namespace

std::span<const Part> second_processor_parts() {
    return parts;
}

}  // namespace flatback::guests
