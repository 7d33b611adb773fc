// Exits that tell L1 when L2 can take an interrupt or an NMI. SDM 3C 26.2, 27.7.5, 27.7.6.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_idt.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/rule.hpp"

extern "C" {
extern char l2_open_window[];
extern char l2_plain[];
}

asm(R"(
.pushsection .text
.globl l2_open_window, l2_plain
l2_open_window:
    nop
    sti
    nop
    nop
    vmcall
l2_plain:
    nop
    nop
    vmcall
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint64_t interrupts_on = 0x202;
constexpr std::uint64_t by_sti = 1;
constexpr std::uint64_t by_mov_ss = 2;
constexpr std::uint64_t by_nmi = 8;
constexpr std::uint64_t inject_nmi = 0x80000202;

void check_interrupt_window() {
    const RuleScope rule{{"3C 27.7.5", "an exit as soon as the guest can take an interrupt"}};
    VmcsPlan plan = usual_plan(physical(l2_open_window), usual_ept().pointer());
    plan.primary |= primary::interrupt_window_exiting;
    L2 l2{plan};
    {
        Check check{"an-interrupt-window-exit-comes-behind-the-instruction-that-follows-sti"};
        check.runs_to(l2, reason::interrupt_window);
        check.equal("RIP", read(field::guest_rip), physical(l2_open_window) + 3);
        check.equal("interruptibility", read(field::guest_interruptibility_state), 0);
    }
    {
        Check check{"an-interrupt-window-exit-comes-at-once-where-interrupts-are-on"};
        write(field::guest_rip, physical(l2_plain));
        check.runs_to(l2, reason::interrupt_window);
        check.equal("RIP", read(field::guest_rip), physical(l2_plain));
    }
    {
        Check check{"an-interrupt-window-exit-waits-for-blocking-by-sti-to-end"};
        write(field::guest_interruptibility_state, by_sti);
        check.runs_to(l2, reason::interrupt_window);
        check.equal("RIP", read(field::guest_rip), physical(l2_plain) + 1);
    }
    {
        Check check{"an-interrupt-window-exit-waits-for-blocking-by-mov-ss-to-end"};
        write(field::guest_rip, physical(l2_plain));
        write(field::guest_interruptibility_state, by_mov_ss);
        check.runs_to(l2, reason::interrupt_window);
        check.equal("RIP", read(field::guest_rip), physical(l2_plain) + 1);
    }
    Check check{"with-interrupts-off-no-interrupt-window-exit-comes"};
    write(field::guest_rip, physical(l2_plain));
    write(field::guest_interruptibility_state, 0);
    write(field::guest_rflags, 2);
    check.runs_to(l2, reason::vmcall);
}

void check_window_after_injection() {
    const RuleScope rule{{"3C 27.7.5", "an exit as soon as the guest can take an interrupt"}};
    VmcsPlan plan = usual_plan(physical(l2_plain), usual_ept().pointer());
    plan.primary |= primary::interrupt_window_exiting;
    L2 l2{plan};
    use_l2_idt(physical(allocate_page()) + page_size - 64);
    write(field::guest_rflags, interrupts_on);
    write(field::vm_entry_interruption_information, 0x80000070);
    Check check{"an-injected-interrupt-closes-the-window-until-l2s-handler-returns"};
    check.runs_to(l2, reason::vmcall);
    check.equal("vector", l2_frame(l2).vector, 0x70);
    return_from_l2_event(l2_frame(l2));
    check.runs_to(l2, reason::interrupt_window);
    check.equal("RIP", read(field::guest_rip), physical(l2_plain));
}

// A VMM that has virtual NMIs enters one guest behind another. What one of them blocks is not the other's.
void check_entry_ends_blocking(L2& l2) {
    const RuleScope rule{
        {"3C 27.7.1", "behind an entry NMIs are blocked as its guest's interruptibility state says"}};
    write(field::vm_entry_interruption_information, inject_nmi);
    Line why;
    if (!l2.run_to(reason::vmcall, why)) return;
    const L2Frame frame = l2_frame(l2);
    {
        Check check{"an-entry-whose-guest-blocks-no-nmi-ends-virtual-nmi-blocking"};
        check.known({"it stays until an IRET", Deviation::Seen::beneath});
        write(field::guest_rip, physical(l2_plain));
        write(field::guest_interruptibility_state, 0);
        check.runs_to(l2, reason::nmi_window);
        check.equal("RIP", read(field::guest_rip), physical(l2_plain));
    }
    // By an IRET, wherever that ended: the next part is not to find it blocked.
    write(field::guest_interruptibility_state, 0);
    return_from_l2_event(frame);
    l2.run_to(reason::nmi_window, why);
}

void check_nmi_window() {
    const RuleScope rule{{"3C 27.7.6", "an exit as soon as nothing blocks an NMI"}};
    if (!capabilities.pin.may_set(pin::nmi_exiting | pin::virtual_nmis) ||
        !capabilities.primary.may_set(primary::nmi_window_exiting)) {
        report_not_offered("NMI-window exiting");
        return;
    }
    VmcsPlan plan = usual_plan(physical(l2_plain), usual_ept().pointer());
    plan.pin |= pin::nmi_exiting | pin::virtual_nmis;
    plan.primary |= primary::nmi_window_exiting;
    L2 l2{plan};
    use_l2_idt(physical(allocate_page()) + page_size - 64);
    {
        Check check{"an-nmi-window-exit-comes-at-once-where-nmis-are-open"};
        check.runs_to(l2, reason::nmi_window);
        check.equal("RIP", read(field::guest_rip), physical(l2_plain));
    }
    {
        Check check{"an-nmi-window-exit-waits-for-the-iret-that-ends-blocking-by-nmi"};
        write(field::vm_entry_interruption_information, inject_nmi);
        check.runs_to(l2, reason::vmcall);
        check.equal("vector", l2_frame(l2).vector, 2);
        check.equal("blocking", read(field::guest_interruptibility_state), by_nmi);
        return_from_l2_event(l2_frame(l2));
        check.runs_to(l2, reason::nmi_window);
        check.equal("RIP", read(field::guest_rip), physical(l2_plain));
    }
    check_entry_ends_blocking(l2);
}

}  // namespace

void check_windows() {
    const PageScope scope;
    check_interrupt_window();
    check_window_after_injection();
    check_nmi_window();
}

}  // namespace flatback::guests
