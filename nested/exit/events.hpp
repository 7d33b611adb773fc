// What L0 gives a guest at an entry: faults of its own making, events whose delivery it interrupted, NMIs.
#pragma once

#include <cstdint>

#include "../../vmx/interruption.hpp"
#include "../../x86/control_registers.hpp"
#include "../../x86/exception.hpp"
#include "../events.hpp"
#include "../vcpu.hpp"

namespace flatback::nested {

namespace detail {
constexpr auto machine_check_event = vmx::InterruptionInformation::exception(x86::Vector::machine_check);
}  // namespace detail

// --- faults ---

// Raises a fault in L1, whose VMCS is current.
template <Port P>
void NestedVcpu<P>::inject(const Fault& fault) {
    if (fault.vector == Fault::none) {
        // The instruction begins again; it has met its code breakpoint already (SDM 3C 28.3.3).
        put(vmx::field::guest_rflags, get(vmx::field::guest_rflags) | x86::rflags::resume);
        drop_single_step();
        return;
    }
    if (fault.vector == static_cast<std::uint8_t>(x86::Vector::page_fault)) {
        port_.set_cr2(fault.page_fault_address);
        // A page fault drops what is cached for its address (SDM 3A 4.10.4.1); the processor has not seen
        // this one.
        vpid01_.invalidate_address(x86::LinearAddress{fault.page_fault_address});
        enter_l1_tag();
    }
    if (!give_fault(fault)) port_.l1_shutdown("a triple fault");
}

// A fault of L2's that L0 found in the processor's place: as L1's exit where L1 intercepts it. vmcs02 is
// current.
template <Port P>
Entry NestedVcpu<P>::raise_in_l2(Slot& slot, std::size_t basic_reason, const Fault& fault) {
    namespace field = vmx::field;
    const vmx::InterruptionInformation delivering{get(field::idt_vectoring_information)};
    const std::uint32_t intercepted = slot.vmcs12.get(field::exception_bitmap);
    const auto exit = [&](const Fault& of, vmx::InterruptionInformation vectoring) {
        const auto event = exception_for(of);
        return reflect_made(slot, vmx::ExitReason::exception_or_nmi, event, of.error_code, vectoring);
    };
    drop_single_step();
    if ((intercepted >> fault.vector & 1) != 0) {
        put(field::guest_rflags, get(field::guest_rflags) | x86::rflags::resume);
        return exit(with_external_bit(fault, delivering), delivering);
    }
    const Combined combined = combine(delivering, fault.vector);
    // SDM 3C 28.2.4: neither a double fault nor a triple fault is an exit during the delivery of an event.
    constexpr std::uint32_t double_fault = 1U << static_cast<unsigned>(x86::Vector::double_fault);
    if (combined == Combined::double_fault && (intercepted & double_fault) != 0)
        return exit(detail::with_code(x86::Vector::double_fault), {});
    if (!give_fault(fault)) return reflect_made(slot, vmx::ExitReason::triple_fault, {}, 0, {});
    return reenter_l2(slot, basic_reason);
}

// Into the entry field of the current VMCS, with what the event adds that its delivery was interrupted.
// False: the guest shuts down.
template <Port P>
bool NestedVcpu<P>::give_fault(const Fault& fault) {
    namespace field = vmx::field;
    const vmx::InterruptionInformation delivering{get(field::idt_vectoring_information)};
    const Combined combined = combine(delivering, fault.vector);
    if (combined == Combined::shutdown) return false;
    const Fault given = combined == Combined::double_fault ? detail::with_code(x86::Vector::double_fault)
                                                           : with_external_bit(fault, delivering);
    drop_single_step();
    // The image that a fault saves has RF = 1 (SDM 3B 18.3.1.1); an injected one saves RFLAGS as they are.
    if (sets_resume_flag(given.vector))
        put(field::guest_rflags, get(field::guest_rflags) | x86::rflags::resume);
    const auto event = exception_for(given);
    put(field::vm_entry_interruption_information, event.value);
    if (event.has_error_code()) put_event_field(field::vm_entry_exception_error_code, given.error_code);
    return true;
}

// In real mode no exception has an error code (SDM 3C 27.2.1.3).
template <Port P>
vmx::InterruptionInformation NestedVcpu<P>::exception_for(const Fault& fault) {
    const bool with_code =
        fault.has_error_code && (get(vmx::field::guest_cr0) & x86::cr0::protection_enable) != 0;
    return vmx::InterruptionInformation::make(vmx::InterruptionType::hardware_exception, fault.vector,
                                              with_code);
}

// SDM 3A 6.13: EXT says that the fault arose in delivering what no instruction of the program asked for.
template <Port P>
Fault NestedVcpu<P>::with_external_bit(Fault fault, vmx::InterruptionInformation delivering) {
    if (fault.has_error_code && x86::is_contributory(fault.vector) && delivering.is_valid() &&
        !delivering.is_software()) {
        fault.error_code |= 1;
    }
    return fault;
}

// #DB is not meant: the processor has left DR6 as it was.
template <Port P>
Entry NestedVcpu<P>::pass_exception_on() {
    namespace field = vmx::field;
    const vmx::InterruptionInformation met{get(field::vm_exit_interruption_information)};
    Fault fault{.vector = met.vector(), .has_error_code = met.has_error_code()};
    if (fault.has_error_code) fault.error_code = get(field::vm_exit_interruption_error_code);
    // The processor has dropped what it had cached for the address, but CR2 it did not write (SDM 3C 28.1).
    if (fault.vector == static_cast<std::uint8_t>(x86::Vector::page_fault))
        port_.set_cr2(get(field::exit_qualification));
    constexpr auto reason = vmx::ExitReason::exception_or_nmi;
    const vmx::InterruptionInformation delivering{get(field::idt_vectoring_information)};
    if (in_l2_ && combine(delivering, fault.vector) == Combined::double_fault) {
        const Fault double_fault = detail::with_code(x86::Vector::double_fault);
        if ((current_->vmcs12.get(field::exception_bitmap) >> double_fault.vector & 1) != 0) {
            // SDM 3C 28.2.4: no exit during the delivery of an event.
            drop_single_step();
            return reflect_made(*current_, reason, exception_for(double_fault), 0, {});
        }
    }
    // INT3 and INTO are traps, behind which their handler returns: nothing of the guest's is to be repeated.
    const bool is_fault = met.type() == vmx::InterruptionType::hardware_exception;
    const bool given = !is_fault || give_fault(fault);
    if (!is_fault) {
        put(field::vm_entry_interruption_information,
            met.value & ~vmx::InterruptionInformation::entry_reserved_bits);
        put_event_field(field::vm_entry_instruction_length, get(field::vm_exit_instruction_length));
    }
    if (in_l2_) {
        if (given) return reenter_l2(*current_, static_cast<std::size_t>(reason));
        return reflect_made(*current_, vmx::ExitReason::triple_fault, {}, 0, {});
    }
    if (!given) port_.l1_shutdown("a triple fault");
    return Entry::vmresume;
}

// --- deliveries that an exit interrupted ---

template <Port P>
void NestedVcpu<P>::retry_l1() {
    repeat_access(get(vmx::field::exit_qualification));
}

// The guest that is current goes back to an access that an EPT violation kept from doing anything.
template <Port P>
void NestedVcpu<P>::repeat_access(std::uint64_t qualification) {
    namespace field = vmx::field;
    if (vmx::EptViolation{qualification}.has(vmx::EptViolation::nmi_unblocking_by_iret) &&
        tells_of_nmi_unblocking()) [[unlikely]] {
        // The IRET did not complete: NMIs are as blocked as before it (SDM 3C 28.2.3).
        put(field::guest_interruptibility_state,
            get(field::guest_interruptibility_state) | vmx::interruptibility::blocking_by_nmi);
    }
    drop_single_step();
    requeue_vectoring_event();
}

// The event is delivered again (SDM 3C 28.2.4).
template <Port P>
void NestedVcpu<P>::requeue_vectoring_event() {
    namespace field = vmx::field;
    const vmx::InterruptionInformation event{get(field::idt_vectoring_information)};
    if (!event.is_valid()) [[likely]]
        return;
    std::uint32_t information = event.value & ~vmx::InterruptionInformation::entry_reserved_bits;
    // There are processors that report an error code in real mode, where no event may have one (SDM
    // 3C 27.2.1.3).
    if (event.has_error_code() && (get(field::guest_cr0) & x86::cr0::protection_enable) == 0)
        information &= ~vmx::InterruptionInformation::error_code_bit;
    put(field::vm_entry_interruption_information, information);
    if ((information & vmx::InterruptionInformation::error_code_bit) != 0) {
        put_event_field(field::vm_entry_exception_error_code, get(field::idt_vectoring_error_code));
    }
    if (event.is_software()) {
        put_event_field(field::vm_entry_instruction_length, get(field::vm_exit_instruction_length));
    }
    if (event.type() == vmx::InterruptionType::nmi) {
        // Delivery of the NMI blocked NMIs; it begins again, so they are not yet blocked.
        const std::uint32_t state = get(field::guest_interruptibility_state);
        put(field::guest_interruptibility_state, state & ~vmx::interruptibility::blocking_by_nmi);
    }
}

// The guest had an exit before its instruction did anything, so that no single-step trap is due for it. Only
// where MOV SS blocks does such an exit save what is pending (SDM 3C 28.3.4), and with STI or MOV SS blocking
// the next entry asks for it (27.3.1.5); but there are processors that save one at other exits.
template <Port P>
void NestedVcpu<P>::drop_single_step() {
    namespace field = vmx::field;
    const std::uint64_t pending = get(field::guest_pending_debug_exceptions);
    if (pending == 0) [[likely]]
        return;
    constexpr std::uint32_t blocking =
        vmx::interruptibility::blocking_by_sti | vmx::interruptibility::blocking_by_mov_ss;
    if ((get(field::guest_interruptibility_state) & blocking) != 0) return;
    put(field::guest_pending_debug_exceptions, pending & ~vmx::pending_debug::single_step);
}

// --- NMIs ---
//
// An NMI is in one place at a time: with the host, in the entry field of the VMCS that is entered next, or
// with the guest. deliver_nmi() takes it from the host, an entry that succeeds gives it to the guest, and one
// that fails gives it back to the host (take_back_nmi).

// As if the NMI had come at the very entry: into L1, through L2's IDT, or as the exit that L1 asked for.
template <Port P>
bool NestedVcpu<P>::deliver_nmi(Entry& entry) {
    namespace field = vmx::field;
    close_nmi_window();
    const NmiGate gate{
        .waiting = {get(field::vm_entry_interruption_information)},
        .interruptibility = get(field::guest_interruptibility_state),
        .activity = static_cast<vmx::ActivityState>(get(field::guest_activity_state)),
        .pin_based = in_l2_ ? current_->vmcs12.get(field::pin_based_vm_execution_controls) : 0};
    switch (gate.way()) {
        case NmiWay::injected:
            put(field::vm_entry_interruption_information, vmx::InterruptionInformation::nmi().value);
            return true;
        case NmiWay::exit:
            // An entry of L1's has not been judged by the processor: where it is to fail, that comes first.
            if (!reentering_ && !guest_state_is_valid(*current_)) return false;
            entry = reflect_nmi(*current_);
            return true;
        case NmiWay::after_event:
        case NmiWay::after_instruction:
        case NmiWay::when_unblocked:
            open_nmi_window(window_for(gate, capabilities_.nmi_window));
            return false;
    }
    return false;
}

// The guest that is current exits when it can take the NMI: the event that was before it is delivered then,
// the instruction done, or an IRET executed. Under virtual NMIs the bit "blocking by NMI" is as before the
// guest's own blocking, but an NMI that comes meanwhile exits: the host has one already.
template <Port P>
void NestedVcpu<P>::open_nmi_window(NmiWindow window) {
    namespace field = vmx::field;
    if (window == NmiWindow::none) return;
    const std::uint32_t pin = get(field::pin_based_vm_execution_controls);
    const std::uint32_t primary = get(field::primary_processor_based_vm_execution_controls);
    nmi_window_ = {.open = true, .vmcs = current_vmcs(), .pin_based = pin, .primary = primary};
    for (const auto exit : nmi_window_exits) set_route(exit, Route::by_nmi_window);
    if (window == NmiWindow::interrupts) {
        put(field::primary_processor_based_vm_execution_controls,
            primary | vmx::primary::interrupt_window_exiting);
        return;
    }
    put(field::pin_based_vm_execution_controls, pin | vmx::pin::nmi_exiting | vmx::pin::virtual_nmis);
    put(field::primary_processor_based_vm_execution_controls, primary | vmx::primary::nmi_window_exiting);
}
// The guest that had it has exited; it may be another's turn.
template <Port P>
void NestedVcpu<P>::close_nmi_window() {
    namespace field = vmx::field;
    if (!nmi_window_.open) return;
    nmi_window_.open = false;
    for (const auto exit : nmi_window_exits) {
        const bool host_takes_it = host_takes_nmis() && exit == vmx::ExitReason::exception_or_nmi;
        set_route(exit, host_takes_it ? Route::by_nmi_window : Route::to_l1);
    }
    const bool is_current = nmi_window_.vmcs == current_vmcs();
    if (!is_current) load(nmi_window_.vmcs);
    put(field::pin_based_vm_execution_controls, nmi_window_.pin_based);
    put(field::primary_processor_based_vm_execution_controls, nmi_window_.primary);
    if (!is_current) load(current_vmcs());
}

// An event that the entry is to deliver comes before it: then INIT waits.
template <Port P>
bool NestedVcpu<P>::deliver_init(Entry& entry) {
    if (!in_l2_) return false;
    close_nmi_window();
    const vmx::InterruptionInformation waiting{get(vmx::field::vm_entry_interruption_information)};
    if (waiting.is_valid()) return false;
    // An entry of L1's has not been judged by the processor: where it is to fail, that comes first.
    if (!reentering_ && !guest_state_is_valid(*current_)) return false;
    ++counters_.exits_from_l2;
    entry = reflect_made(*current_, vmx::ExitReason::init_signal, {}, 0, {});
    return true;
}

// The exit that an NMI causes right behind the entry. vmcs02 is current, then vmcs01.
template <Port P>
Entry NestedVcpu<P>::reflect_nmi(Slot& slot) {
    // Nothing ran, but vmcs02 has everything to be entered with, as an exit would have saved it.
    ++counters_.exits_from_l2;
    const Entry entry =
        reflect_made(slot, vmx::ExitReason::exception_or_nmi, vmx::InterruptionInformation::nmi(), 0, {});
    put(vmx::field::guest_interruptibility_state, vmx::interruptibility::blocking_by_nmi);
    return entry;
}

// An exit of L2's that the processor did not make. vmcs02 is current, then vmcs01.
template <Port P>
Entry NestedVcpu<P>::reflect_made(Slot& slot, vmx::ExitReason reason, vmx::InterruptionInformation event,
                                  std::uint32_t error_code, vmx::InterruptionInformation vectoring,
                                  std::uint64_t qualification) {
    const Entry entry = reflect(slot, static_cast<std::uint32_t>(reason), qualification);
    const auto set = [&](vmx::field::Bits32Information what, std::uint32_t value) {
        slot.vmcs12.set(what, value);
        slot.newest.is_in_vmcs12(detail::index_of(what.encoding));
        if (shadowing_) put(what, value);
    };
    if (shadowing_) load(slot.shadow);
    set(vmx::field::vm_exit_interruption_information, event.value);
    if (event.has_error_code()) set(vmx::field::vm_exit_interruption_error_code, error_code);
    set(vmx::field::idt_vectoring_information, vectoring.value);
    if (shadowing_) load(vmcs01_);
    return entry;
}

// The entry failed, and no event of it was delivered. vmcs02 is current. What waits there is L1's own (its
// VMCS has it too), an interrupted delivery's (IDT-vectoring information has it), or a fault of L0's, which
// is neither of these; an NMI or a machine check that is none of them the host gave.
template <Port P>
void NestedVcpu<P>::take_back_hosts_event(Slot& slot) {
    namespace field = vmx::field;
    const vmx::InterruptionInformation waiting{get(field::vm_entry_interruption_information)};
    const bool is_nmi = waiting == vmx::InterruptionInformation::nmi();
    if (!is_nmi && waiting != detail::machine_check_event) return;
    const vmx::InterruptionInformation own{reentering_
                                               ? get(field::idt_vectoring_information)
                                               : slot.vmcs12.get(field::vm_entry_interruption_information)};
    if (own.is_valid()) return;
    put(field::vm_entry_interruption_information,
        slot.vmcs12.get(field::vm_entry_interruption_information) & ~vmx::InterruptionInformation::valid_bit);
    if (is_nmi) {
        port_.return_nmi();
    } else {
        (void)return_machine_check();
    }
}

// --- machine checks ---

// Nothing blocks a machine check; but an entry has one event, and what is on its way already comes first (SDM
// 3A table 6-4: one benign exception behind another).
template <Port P>
bool NestedVcpu<P>::deliver_machine_check(Entry& entry) {
    namespace field = vmx::field;
    close_nmi_window();
    const NmiGate gate{
        .waiting = {get(field::vm_entry_interruption_information)},
        .interruptibility = get(field::guest_interruptibility_state),
        .activity = static_cast<vmx::ActivityState>(get(field::guest_activity_state)),
        .pin_based = in_l2_ ? current_->vmcs12.get(field::pin_based_vm_execution_controls) : 0};
    if (gate.waiting.is_valid()) {
        // An NMI window would wait for an IRET as well where NMIs are blocked.
        open_nmi_window(gate.way() == NmiWay::after_event ? window_for(gate, capabilities_.nmi_window)
                                                          : NmiWindow::interrupts);
        return false;
    }
    if (gate.activity == vmx::ActivityState::wait_for_sipi) return false;
    // An entry of L1's has not been judged by the processor: where it is to fail, that comes first.
    if (in_l2_ && !reentering_ && !guest_state_is_valid(*current_)) return false;
    // SDM 3B 16.1: without CR4.MCE it is a shutdown, and no exception.
    const bool enabled = (get(field::guest_cr4) & x86::cr4::machine_check_enable) != 0;
    if (!in_l2_) {
        if (!enabled) port_.l1_shutdown("a machine check with CR4.MCE = 0");
        put(field::vm_entry_interruption_information, detail::machine_check_event.value);
        return true;
    }
    constexpr std::uint32_t bit = 1U << static_cast<unsigned>(x86::Vector::machine_check);
    if (enabled && (current_->vmcs12.get(field::exception_bitmap) & bit) == 0) {
        put(field::vm_entry_interruption_information, detail::machine_check_event.value);
        return true;
    }
    ++counters_.exits_from_l2;
    entry = enabled ? reflect_made(*current_, vmx::ExitReason::exception_or_nmi, detail::machine_check_event,
                                   0, {})
                    : reflect_made(*current_, vmx::ExitReason::triple_fault, {}, 0, {});
    return true;
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
