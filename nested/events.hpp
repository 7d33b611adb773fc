// The rules of events that L0 gives a guest: when an NMI goes in, and what a fault becomes that meets another
// event.
#pragma once

#include <cstdint>

#include "../vmx/controls.hpp"
#include "../vmx/interruption.hpp"
#include "../x86/exception.hpp"

namespace flatback::nested {

// An NMI as it reaches a guest.
enum class NmiWay : std::uint8_t {
    injected,           // through the guest's IDT, at this entry
    exit,               // as the VM exit that the guest's hypervisor asked for
    after_event,        // the entry has another event to deliver, and there is one an entry
    after_instruction,  // STI or MOV SS blocks until the next instruction is done
    when_unblocked,     // NMIs are blocked, until an IRET
};

// What decides it, as it is in the VMCS that is about to be entered.
struct NmiGate {
    vmx::InterruptionInformation waiting;  // VM-entry interruption information
    std::uint32_t interruptibility;
    vmx::ActivityState activity;
    std::uint32_t pin_based;  // what the guest's hypervisor asked for; 0 where that is L0

    [[nodiscard]] constexpr NmiWay way() const {
        namespace bit = vmx::interruptibility;
        const bool exits = (pin_based & vmx::pin::nmi_exiting) != 0;
        // With virtual NMIs the bit is of those alone (SDM 3C table 25-3).
        const bool blocked =
            (interruptibility & bit::blocking_by_nmi) != 0 && (pin_based & vmx::pin::virtual_nmis) == 0;
        if (blocked || activity == vmx::ActivityState::wait_for_sipi) return NmiWay::when_unblocked;
        if (waiting.is_valid()) return NmiWay::after_event;
        // Some processors refuse an NMI that is injected with blocking by STI (SDM 3C 27.3.1.5).
        if ((interruptibility & (bit::blocking_by_mov_ss | bit::blocking_by_sti)) != 0)
            return NmiWay::after_instruction;
        return exits ? NmiWay::exit : NmiWay::injected;
    }
};

// The exit that tells when an NMI that waits can be given.
enum class NmiWindow : std::uint8_t {
    none,        // no exit tells it
    interrupts,  // "interrupt-window exiting": the guest takes interrupts, and so nothing keeps out an NMI
    nmis,        // "NMI-window exiting", with NMI exiting and virtual NMIs
};

// Where the guest's hypervisor asked for NMI exits, its choice of virtual NMIs is not L0's to change: with
// them the window tells of those alone, and without them no IRET of the guest's unblocks NMIs (SDM 3C 26.3).
[[nodiscard]] constexpr NmiWindow window_for(const NmiGate& gate, bool has_nmi_window) {
    namespace bit = vmx::interruptibility;
    const bool own = has_nmi_window && (gate.pin_based & vmx::pin::nmi_exiting) == 0;
    switch (gate.way()) {
        case NmiWay::injected:
        case NmiWay::exit:
            return NmiWindow::none;
        case NmiWay::after_event:
            return own ? NmiWindow::nmis : NmiWindow::interrupts;
        case NmiWay::after_instruction:
            // Where STI blocks, the NMI window may be open at once (SDM 3C 26.2).
            return own && (gate.interruptibility & bit::blocking_by_sti) == 0 ? NmiWindow::nmis
                                                                              : NmiWindow::interrupts;
        case NmiWay::when_unblocked: {
            // Without virtual NMIs an NMI may be injected although NMIs are blocked, with them not
            // (27.3.1.5).
            const bool injects_nmi =
                gate.waiting.is_valid() && gate.waiting.type() == vmx::InterruptionType::nmi;
            return own && gate.activity != vmx::ActivityState::wait_for_sipi && !injects_nmi
                       ? NmiWindow::nmis
                       : NmiWindow::none;
        }
    }
    return NmiWindow::none;
}

// What becomes of an exception that arises while another event is delivered (SDM 3A tables 6-4 and 6-5).
enum class Combined : std::uint8_t { the_exception, double_fault, shutdown };

// delivering: IDT-vectoring information. vector: of the exception.
[[nodiscard]] constexpr Combined combine(vmx::InterruptionInformation delivering, std::uint8_t vector) {
    if (!delivering.is_valid() || delivering.type() != vmx::InterruptionType::hardware_exception)
        return Combined::the_exception;
    constexpr auto page_fault = static_cast<std::uint8_t>(x86::Vector::page_fault);
    const std::uint8_t first = delivering.vector();
    const bool contributory = x86::is_contributory(vector);
    if (!contributory && vector != page_fault) return Combined::the_exception;
    if (first == static_cast<std::uint8_t>(x86::Vector::double_fault)) return Combined::shutdown;
    if (first == page_fault || first == static_cast<std::uint8_t>(x86::Vector::virtualization))
        return Combined::double_fault;
    return x86::is_contributory(first) && contributory ? Combined::double_fault : Combined::the_exception;
}

// Whether the RFLAGS image that is saved with the exception has RF set (SDM 3B 18.3.1.1): all faults but #DB,
// which L0 gives to no guest.
[[nodiscard]] constexpr bool sets_resume_flag(std::uint8_t vector) {
    constexpr std::uint32_t others = 1U << 1 | 1U << 2 | 1U << 3 | 1U << 4 | 1U << 8 | 1U << 18;
    return vector < 32 && (others >> vector & 1) == 0;
}

}  // namespace flatback::nested
