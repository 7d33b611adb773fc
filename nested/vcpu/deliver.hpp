// What the host has for a guest (nested/event_gate.hpp decides when and how it gets it): put into the entry,
// or made L2's exit to L1, or kept back with the exits asked for that tell when it can be given.
//
// An event is in one place at a time: with the host, in the entry field of the VMCS that is entered next, or
// with the guest. deliver() takes it from the host, an entry that succeeds gives it to the guest, and one
// that fails gives it back to the host (take_back_hosts_event).
#pragma once

#include <cstddef>
#include <cstdint>

#include "../../vmx/interruption.hpp"
#include "../../x86/control_registers.hpp"
#include "../event_gate.hpp"
#include "../pending_events.hpp"
#include "nested_vcpu.hpp"

namespace flatback::nested {

namespace detail {
constexpr auto machine_check_event = vmx::InterruptionInformation::exception(x86::Vector::machine_check);

constexpr vmx::ExitReason exit_reason_of(EventKind kind) {
    switch (kind) {
        case EventKind::init:
            return vmx::ExitReason::init_signal;
        case EventKind::start_up:
            return vmx::ExitReason::startup_ipi;
        case EventKind::external_interrupt:
            return vmx::ExitReason::external_interrupt;
        case EventKind::machine_check:
        case EventKind::nmi:
            break;
    }
    return vmx::ExitReason::exception_or_nmi;
}
// SDM 3C 28.3.4: INIT and machine checks are no reason to lose what is pending.
constexpr bool exit_saves_pending_debug(EventKind kind) {
    return kind == EventKind::init || kind == EventKind::machine_check;
}
}  // namespace detail

template <Port P>
EventGate NestedVcpu<P>::event_gate() {
    namespace field = vmx::field;
    EventGate gate{.waiting = {get(field::vm_entry_interruption_information)},
                   .interruptibility = get(field::guest_interruptibility_state),
                   .activity = static_cast<vmx::ActivityState>(get(field::guest_activity_state)),
                   .pending_debug = get(field::guest_pending_debug_exceptions),
                   .interrupts_enabled = (get(field::guest_rflags) & x86::rflags::interrupt_enable) != 0,
                   .machine_checks_enabled = (get(field::guest_cr4) & x86::cr4::machine_check_enable) != 0,
                   .in_l2 = in_l2_,
                   .in_vmx_operation = in_vmx_operation_,
                   .has_nmi_window = capabilities_.nmi_window};
    if (in_l2_) {
        gate.pin_based = current_->vmcs12.get(field::pin_based_vm_execution_controls);
        gate.primary_processor_based =
            current_->vmcs12.get(field::primary_processor_based_vm_execution_controls);
        gate.exception_bitmap = current_->vmcs12.get(field::exception_bitmap);
        const bool l1s_timer_runs = l1_uses_timer(*current_);
        gate.l1s_timer_has_ended = l1s_timer_runs && l1_timer_left() == 0;
        // Where the Port has no clock, what is left of L1's stands in the field alone.
        gate.has_timer = (detail::HasTimeStampCounter<P> || !l1s_timer_runs) &&
                         capabilities_.promised.pin_based.may_set(vmx::pin::activate_vmx_preemption_timer);
    }
    return gate;
}

template <Port P>
Delivery NestedVcpu<P>::deliver(const Event& event, Entry& entry) {
    namespace field = vmx::field;
    const EventGate gate = event_gate();
    const EventDecision decision = gate.decide(event.kind);
    want_window(event.kind, decision.window);
    // It was loaded when there was some left: the exit that what waits has to follow comes at once.
    if (gate.l1s_timer_has_ended) [[unlikely]]
        put(field::vmx_preemption_timer_value, 0);
    switch (decision.way) {
        case EventWay::injected:
            put(field::vm_entry_interruption_information, information_of(event).value);
            return Delivery::given;
        case EventWay::exit:
            return deliver_as_exit(event, gate, entry);
        case EventWay::shutdown:
            if (!in_l2_) {
                port_.l1_shutdown("a machine check with CR4.MCE = 0");
                return Delivery::given;
            }
            if (!reentering_ && !guest_state_is_valid(*current_)) return Delivery::waits;
            ++counters_.exits_from_l2;
            put(field::guest_cr0, l2_cr0(*current_));
            entry = launched_anew(reflect_made(*current_, vmx::ExitReason::triple_fault, {}, 0, {}));
            return Delivery::given;
        case EventWay::reset:
            return Delivery::reset;
        case EventWay::discarded:
            return Delivery::discarded;
        case EventWay::waits:
            break;
    }
    return Delivery::waits;
}

// The exit that the event causes right behind the entry. Nothing ran, but vmcs02 has everything to be entered
// with, as an exit would have saved it, but for what no entry loads. vmcs02 is current, then vmcs01.
template <Port P>
Delivery NestedVcpu<P>::deliver_as_exit(const Event& event, const EventGate& gate, Entry& entry) {
    namespace field = vmx::field;
    Slot& slot = *current_;
    // An entry of L1's has not been judged by the processor: where it is to fail, that comes first.
    if (!reentering_ && !guest_state_is_valid(slot)) return Delivery::waits;
    // SDM 3C 28.2.2: without that control the interrupt stays with the interrupt controller.
    const bool is_interrupt = event.kind == EventKind::external_interrupt;
    const bool acknowledges = is_interrupt && (slot.vmcs12.get(field::vm_exit_controls) &
                                               vmx::exit_control::acknowledge_interrupt_on_exit) != 0;
    vmx::InterruptionInformation information{};
    if (!is_interrupt || acknowledges) information = information_of(event);
    if (acknowledges && take_posted_interrupts(slot, information)) return Delivery::given;
    ++counters_.exits_from_l2;
    put(field::guest_cr0, l2_cr0(slot));
    if (gate.pending_debug != 0 && !detail::exit_saves_pending_debug(event.kind))
        put(field::guest_pending_debug_exceptions, 0);
    const std::uint64_t qualification = event.kind == EventKind::start_up ? event.vector : 0;
    entry = launched_anew(
        reflect_made(slot, detail::exit_reason_of(event.kind), information, 0, {}, qualification));
    // reflect() takes this from what the processor last told, and the exit was not the processor's.
    if (event.kind == EventKind::nmi) {
        put(field::guest_interruptibility_state, vmx::interruptibility::blocking_by_nmi);
    } else if (event.kind == EventKind::machine_check) {
        const bool is_l2s_own = (gate.pin_based & vmx::pin::virtual_nmis) != 0;
        put(field::guest_interruptibility_state,
            is_l2s_own ? 0 : gate.interruptibility & vmx::interruptibility::blocking_by_nmi);
    }
    return is_interrupt && !acknowledges ? Delivery::shown : Delivery::given;
}

// As it is told of at an entry or exit. INIT and start-up IPIs have none.
template <Port P>
vmx::InterruptionInformation NestedVcpu<P>::information_of(const Event& event) {
    switch (event.kind) {
        case EventKind::machine_check:
            return detail::machine_check_event;
        case EventKind::nmi:
            return vmx::InterruptionInformation::nmi();
        case EventKind::init:
        case EventKind::start_up:
            return {};
        case EventKind::external_interrupt:
            break;
    }
    if (!event.unacknowledged) return vmx::InterruptionInformation::external(event.vector);
    if constexpr (requires { port_.acknowledge_interrupt(); }) {
        return vmx::InterruptionInformation::external(port_.acknowledge_interrupt());
    } else {
        port_.fatal("an interrupt to acknowledge, and a Port that cannot");
        return {};
    }
}

template <Port P>
HostsPart NestedVcpu<P>::deliver(PendingEvents& events, Entry& entry) {
    HostsPart hosts;
    for (unsigned number = 0; number < event_kinds;) {
        const auto kind = static_cast<EventKind>(number);
        const auto event = events.first(kind);
        if (!event) {
            want_window(kind, Window::none);
            ++number;
            continue;
        }
        const bool was_in_l2 = in_l2_;
        switch (deliver(*event, entry)) {
            case Delivery::given:
            case Delivery::discarded:
                events.remove(*event);
                break;
            case Delivery::reset:
                events.remove(*event);
                if (kind == EventKind::start_up) {
                    hosts.start_up = event->vector;
                } else {
                    hosts.reset = true;
                }
                return hosts;  // what else waits is for another life of the processor
            case Delivery::shown:
                break;
            case Delivery::waits:
                ++number;
                break;
        }
        // Another guest, in which nothing has been asked for yet. There is one such change at most.
        if (was_in_l2 && !in_l2_) number = 0;
    }
    return hosts;
}

// --- the window ---
//
// The guest that is current exits when it can take what waits: the event that was before it is delivered
// then, the instruction done, interrupts enabled, or an IRET executed. Each kind of event has its own wish,
// and the controls are those of all wishes. With an NMI window the guest has virtual NMIs: the bit "blocking
// by NMI" is as before the guest's own blocking, but an NMI that comes meanwhile exits: the host has one
// already. The timer at 0 opens no window, but ends the delivery: L1's own timer is beneath, and is put again
// when nothing waits for that any more.

template <Port P>
void NestedVcpu<P>::want_window(EventKind kind, Window window) {
    namespace field = vmx::field;
    if (window_.open && window_.vmcs != current_vmcs()) close_window();
    const auto bit = static_cast<std::uint8_t>(1U << static_cast<unsigned>(kind));
    const auto with = [&](std::uint8_t wishes, Window of) {
        return static_cast<std::uint8_t>(window == of ? wishes | bit : wishes & ~bit);
    };
    const std::uint8_t interrupts = with(window_.for_interrupts, Window::interrupts);
    const std::uint8_t nmis = with(window_.for_nmis, Window::nmis);
    const std::uint8_t boundary = with(window_.for_boundary, Window::behind_delivery);
    if (boundary != 0) [[unlikely]]
        put(field::vmx_preemption_timer_value, 0);
    if (interrupts == window_.for_interrupts && nmis == window_.for_nmis && boundary == window_.for_boundary)
        return;
    if ((interrupts | nmis | boundary) == 0) {
        close_window();
        return;
    }
    if (!window_.open) {
        window_.open = true;
        window_.vmcs = current_vmcs();
        window_.pin_based = get(field::pin_based_vm_execution_controls);
        window_.primary = get(field::primary_processor_based_vm_execution_controls);
        for (const auto exit : window_exits) set_route(exit, Route::by_window);
    }
    window_.for_interrupts = interrupts;
    window_.for_nmis = nmis;
    const bool no_boundary_now = window_.for_boundary != 0 && boundary == 0;
    window_.for_boundary = boundary;
    if (no_boundary_now) put_timer_beneath();
    const std::uint32_t pin = (nmis != 0 ? vmx::pin::nmi_exiting | vmx::pin::virtual_nmis : 0) |
                              (boundary != 0 ? vmx::pin::activate_vmx_preemption_timer : 0);
    const std::uint32_t primary = (interrupts != 0 ? vmx::primary::interrupt_window_exiting : 0) |
                                  (nmis != 0 ? vmx::primary::nmi_window_exiting : 0);
    put(field::pin_based_vm_execution_controls, window_.pin_based | pin);
    put(field::primary_processor_based_vm_execution_controls, window_.primary | primary);
}

// What the timer at 0 stood in the place of. Where L2's VMCS is current: another entry of it puts it too.
template <Port P>
void NestedVcpu<P>::put_timer_beneath() {
    if (in_l2_ && (current_->work & detail::timer) != 0) put_timer(*current_);
}

// The guest that had it has exited; it may be another's turn.
template <Port P>
void NestedVcpu<P>::close_window() {
    namespace field = vmx::field;
    if (!window_.open) return;
    window_.open = false;
    const bool had_boundary = window_.for_boundary != 0;
    window_.for_interrupts = window_.for_nmis = window_.for_boundary = 0;
    for (const auto exit : window_exits) {
        const bool host_takes_it = host_takes_nmis() && exit == vmx::ExitReason::exception_or_nmi;
        set_route(exit, host_takes_it ? Route::by_window : Route::to_l1);
    }
    const bool is_current = window_.vmcs == current_vmcs();
    if (had_boundary && is_current) put_timer_beneath();
    if (!is_current) load(window_.vmcs);
    std::uint32_t pin = window_.pin_based;
    std::uint32_t primary = window_.primary;
    for (unsigned i = 0; i < slots_used_; ++i) {
        if (slots_[i].vmcs02.page != window_.vmcs) continue;
        // Of an event that was withdrawn without a word: L1 may have entered with other controls since.
        pin = with_demands(compose(slots_[i].vmcs12, host_controls()), demands_).pin_based;
        primary = slots_[i].vmcs02.primary;
    }
    put(field::pin_based_vm_execution_controls, pin);
    put(field::primary_processor_based_vm_execution_controls, primary);
    if (!is_current) load(current_vmcs());
}

// An exit while the window is open, or where all NMIs are the host's. L1 asked for none of the controls that
// L0 then adds, but for its own interrupt window.
template <Port P>
bool NestedVcpu<P>::is_l0s_own_window_exit(const Slot& slot, vmx::ExitReason reason) {
    namespace field = vmx::field;
    const std::uint32_t primary12 = slot.vmcs12.get(field::primary_processor_based_vm_execution_controls);
    switch (reason) {
        case vmx::ExitReason::interrupt_window:
            if ((primary12 & vmx::primary::interrupt_window_exiting) != 0) return false;
            close_window();
            return true;
        case vmx::ExitReason::nmi_window:
            if ((primary12 & vmx::primary::nmi_window_exiting) != 0) return false;
            close_window();
            return true;
        case vmx::ExitReason::vmx_preemption_timer_expired:
            // An end of L1's that has come too makes L2 exit once more, right behind the next entry.
            if (window_.for_boundary == 0) return false;
            close_window();
            return true;
        default:
            break;
    }
    const vmx::InterruptionInformation event{get(field::vm_exit_interruption_information)};
    if (!event.is_valid() || event.type() != vmx::InterruptionType::nmi) return false;
    if (!host_takes_nmis() &&
        (slot.vmcs12.get(field::pin_based_vm_execution_controls) & vmx::pin::nmi_exiting) != 0) {
        return false;
    }
    port_.return_nmi();
    requeue_vectoring_event();
    return true;
}

// --- entries that fail ---

// The entry failed, and no event of it was delivered. vmcs02 is current. What waits there is L1's own (its
// VMCS has it too), an interrupted delivery's (IDT-vectoring information has it), or a fault of L0's, which
// is neither of these; an NMI, an interrupt or a machine check that is none of them the host gave.
template <Port P>
void NestedVcpu<P>::take_back_hosts_event(Slot& slot) {
    namespace field = vmx::field;
    const vmx::InterruptionInformation waiting{get(field::vm_entry_interruption_information)};
    const bool is_nmi = waiting == vmx::InterruptionInformation::nmi();
    const bool is_interrupt =
        waiting.is_valid() && waiting.type() == vmx::InterruptionType::external_interrupt;
    if (!is_nmi && !is_interrupt && waiting != detail::machine_check_event) return;
    const vmx::InterruptionInformation own{reentering_
                                               ? get(field::idt_vectoring_information)
                                               : slot.vmcs12.get(field::vm_entry_interruption_information)};
    if (own.is_valid()) return;
    put(field::vm_entry_interruption_information,
        slot.vmcs12.get(field::vm_entry_interruption_information) & ~vmx::InterruptionInformation::valid_bit);
    if (is_nmi) {
        port_.return_nmi();
    } else if (is_interrupt) {
        return_interrupt(waiting.vector());
    } else {
        (void)return_machine_check();
    }
}

template <Port P>
void NestedVcpu<P>::return_interrupt(std::uint8_t vector) {
    if constexpr (requires { port_.return_interrupt(vector); }) {
        port_.return_interrupt(vector);
    } else {
        port_.fatal("an interrupt that no guest has taken, and a Port that takes none back");
    }
}

// False: the host takes none back.
template <Port P>
bool NestedVcpu<P>::return_machine_check() {
    if constexpr (requires { port_.return_machine_check(); }) {
        port_.return_machine_check();
        return true;
    }
    return false;
}

}  // namespace flatback::nested
