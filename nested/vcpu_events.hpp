// What L0 gives a guest at an entry: faults of its own making, events whose delivery it interrupted, NMIs.
#pragma once

#include <cstdint>

#include "nested/events.hpp"
#include "nested/vcpu.hpp"
#include "vmx/interruption.hpp"

namespace flatback::nested {

// --- faults and interrupted deliveries ---

// The guest whose VMCS is current.
template <Port P>
void NestedVcpu<P>::inject(const Fault& fault) {
    // The image of RFLAGS that a fault saves has RF = 1 (SDM 3B 18.3.1.1); an injected one saves the guest's
    // as it is. An instruction that begins again, too, has met its code breakpoint already (SDM 3C 28.3.3).
    put(vmx::field::guest_rflags, get(vmx::field::guest_rflags) | x86::rflags::resume);
    if (fault.vector == Fault::none) return;
    if (fault.vector == static_cast<std::uint8_t>(x86::Vector::page_fault)) {
        port_.set_cr2(fault.page_fault_address);
        // A page fault drops what is cached for its address (SDM 3A 4.10.4.1); the processor has not seen
        // this one.
        vpid01_.invalidate_address(x86::LinearAddress{fault.page_fault_address});
        enter_l1_tag();
    }
    // In real mode no exception has an error code (SDM 3C 27.2.1.3).
    const bool with_code =
        fault.has_error_code && (get(vmx::field::guest_cr0) & x86::cr0::protection_enable) != 0;
    const auto information = vmx::InterruptionInformation::make(vmx::InterruptionType::hardware_exception,
                                                                fault.vector, with_code);
    put(vmx::field::vm_entry_interruption_information, information.value);
    if (with_code) put_event_field(vmx::field::vm_entry_exception_error_code, fault.error_code);
}

// An event that was being delivered when the exit came is delivered again (SDM 3C 28.2.4).
template <Port P>
void NestedVcpu<P>::requeue_vectoring_event() {
    const vmx::InterruptionInformation event{get(vmx::field::idt_vectoring_information)};
    if (!event.is_valid()) [[likely]]
        return;
    put(vmx::field::vm_entry_interruption_information,
        event.value & ~vmx::InterruptionInformation::entry_reserved_bits);
    if (event.has_error_code()) {
        put_event_field(vmx::field::vm_entry_exception_error_code, get(vmx::field::idt_vectoring_error_code));
    }
    if (event.is_software()) {
        put_event_field(vmx::field::vm_entry_instruction_length, get(vmx::field::vm_exit_instruction_length));
    }
    if (event.type() == vmx::InterruptionType::nmi) {
        // Delivery of the NMI blocked NMIs; it begins again, so they are not yet blocked.
        const std::uint32_t state = get(vmx::field::guest_interruptibility_state);
        put(vmx::field::guest_interruptibility_state, state & ~vmx::interruptibility::blocking_by_nmi);
    }
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
            break;
    }
    return false;
}

// The exit that an NMI causes right behind the entry. vmcs02 is current, then vmcs01.
template <Port P>
Entry NestedVcpu<P>::reflect_nmi(Slot& slot) {
    slot.guest_in_vmcs02 = true;  // nothing ran, but everything to be entered with is there
    ++counters_.exits_from_l2;
    const Entry entry = reflect(slot, static_cast<std::uint32_t>(vmx::ExitReason::exception_or_nmi), 0);
    const auto set = [&](vmx::field::Bits32Information what, std::uint32_t value) {
        slot.vmcs12.set(what, value);
        slot.fresh.insert(detail::index_of(what.encoding));
        if (shadowing_) put(what, value);
    };
    if (shadowing_) load(slot.shadow);
    set(vmx::field::vm_exit_interruption_information, vmx::InterruptionInformation::nmi().value);
    set(vmx::field::idt_vectoring_information, 0);
    if (shadowing_) load(vmcs01_);
    put(vmx::field::guest_interruptibility_state, vmx::interruptibility::blocking_by_nmi);
    return entry;
}

// The entry failed, and no event of it was delivered. vmcs02 is current. What waits there is L1's own (its
// VMCS has it too), an interrupted delivery's (IDT-vectoring information has it), or a fault of L0's, which
// is no NMI; an NMI that is none of these came by deliver_nmi().
template <Port P>
void NestedVcpu<P>::take_back_nmi(Slot& slot) {
    namespace field = vmx::field;
    const vmx::InterruptionInformation waiting{get(field::vm_entry_interruption_information)};
    if (waiting != vmx::InterruptionInformation::nmi()) return;
    const vmx::InterruptionInformation own{reentering_
                                               ? get(field::idt_vectoring_information)
                                               : slot.vmcs12.get(field::vm_entry_interruption_information)};
    if (own.is_valid()) return;
    put(field::vm_entry_interruption_information,
        slot.vmcs12.get(field::vm_entry_interruption_information) & ~vmx::InterruptionInformation::valid_bit);
    port_.return_nmi();
}

}  // namespace flatback::nested
