// Whether an NMI may go into a guest at its next entry, and how.
#pragma once

#include <cstdint>

#include "vmx/controls.hpp"
#include "vmx/interruption.hpp"

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

}  // namespace flatback::nested
