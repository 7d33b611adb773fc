// What L0 makes for a guest itself: faults, deliveries that it interrupted and begins again, exits of L2's
// that the processor did not make. What the host has for a guest is in deliver.hpp.
#pragma once

#include <cstdint>

#include "../../vmx/interruption.hpp"
#include "../../x86/control_registers.hpp"
#include "../../x86/exception.hpp"
#include "../events.hpp"
#include "nested_vcpu.hpp"

namespace flatback::nested {

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
    vmx::InterruptionInformation event{get(field::idt_vectoring_information)};
    if (!event.is_valid()) [[likely]]
        return;
    if (in_l2_ && capabilities_.misreports_virtual_interrupts)
        event = virtual_interrupt_instead(*current_, event);
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

}  // namespace flatback::nested
