// When a guest takes an event that its host has for it, and as what: the one decision for all kinds of them
// (SDM 3A table 6-2; SDM 3C 24.8, 25.6.1, 26.2, 27.7). Pure; nested/vcpu/deliver.hpp does what it says.
#pragma once

#include <cstdint>

#include "../vmx/controls.hpp"
#include "../vmx/interruption.hpp"
#include "../x86/exception.hpp"

namespace flatback::nested {

// In the order in which a processor takes those that have come (SDM 3A table 6-2).
enum class EventKind : std::uint8_t { machine_check, init, start_up, nmi, external_interrupt };
inline constexpr unsigned event_kinds = 5;

// What comes for a virtual CPU from outside its guests.
struct Event {
    EventKind kind = EventKind::nmi;
    // Of an external interrupt that is acknowledged already, 0 to 255; of a start-up IPI, where the processor
    // is to begin: page number `vector`.
    std::uint8_t vector = 0;
    // An external interrupt whose vector the host learns when the guest takes it
    // (Port::acknowledge_interrupt).
    bool unacknowledged = false;

    // Behind which the processor can go on.
    [[nodiscard]] static constexpr Event machine_check() { return {EventKind::machine_check}; }
    [[nodiscard]] static constexpr Event init() { return {EventKind::init}; }
    [[nodiscard]] static constexpr Event start_up(std::uint8_t page) { return {EventKind::start_up, page}; }
    [[nodiscard]] static constexpr Event nmi() { return {EventKind::nmi}; }
    [[nodiscard]] static constexpr Event interrupt(std::uint8_t vector) {
        return {EventKind::external_interrupt, vector};
    }
    [[nodiscard]] static constexpr Event interrupt_to_acknowledge() {
        return {EventKind::external_interrupt, 0, true};
    }

    friend constexpr bool operator==(const Event&, const Event&) = default;
};

// An event as it reaches the guest that is about to be entered.
enum class EventWay : std::uint8_t {
    injected,   // through the guest's IDT, at this entry
    exit,       // as a VM exit of L2's, to L1
    shutdown,   // a machine check with CR4.MCE = 0 (SDM 3B 16.1): L1's end, or a triple fault of L2's
    reset,      // INIT, or a start-up IPI, outside of VMX operation: the host resets or starts the processor
    discarded,  // a start-up IPI that no processor waits for
    waits,
};

// The exit that tells when an event that waits can be given.
enum class Window : std::uint8_t {
    none,        // no exit tells it
    interrupts,  // "interrupt-window exiting": the guest takes interrupts, and so nothing keeps out an NMI
    nmis,        // "NMI-window exiting", with NMI exiting and virtual NMIs
    // The VMX-preemption timer at 0: behind what the entry delivers, before the guest's next instruction (SDM
    // 3C 27.7.4).
    behind_delivery,
};

struct EventDecision {
    EventWay way = EventWay::waits;
    Window window = Window::none;  // where it waits

    friend constexpr bool operator==(const EventDecision&, const EventDecision&) = default;
};

// What decides it, as it is in the VMCS that is about to be entered.
struct EventGate {
    vmx::InterruptionInformation waiting;  // VM-entry interruption information: there is one event an entry
    std::uint32_t interruptibility = 0;
    vmx::ActivityState activity = vmx::ActivityState::active;
    std::uint64_t pending_debug = 0;     // pending debug exceptions
    bool interrupts_enabled = true;      // RFLAGS.IF
    bool machine_checks_enabled = true;  // CR4.MCE
    bool in_l2 = false;
    bool in_vmx_operation = false;
    std::uint32_t pin_based = 0;  // of L1's for L2; else 0, as of the next two
    std::uint32_t primary_processor_based = 0;
    std::uint32_t exception_bitmap = 0;
    bool has_nmi_window = true;  // the processor
    // The same of a VMX-preemption timer that L0 may set for this entry. Of L2's alone.
    bool has_timer = false;
    // The VMX-preemption timer that L1 gave L2 has come to its end: L2 is about to exit for it, before an NMI
    // and all that comes behind one (SDM 3C 27.7.4).
    bool l1s_timer_has_ended = false;

    [[nodiscard]] constexpr EventDecision decide(EventKind kind) const {
        switch (kind) {
            case EventKind::machine_check:
                return machine_check();
            case EventKind::init:
                return init();
            case EventKind::start_up:
                return start_up();
            case EventKind::nmi:
                return nmi();
            case EventKind::external_interrupt:
                return external_interrupt();
        }
        return {};
    }

private:
    [[nodiscard]] constexpr bool asked_for(std::uint32_t pin_based_control) const {
        return (pin_based & pin_based_control) != 0;
    }
    // With virtual NMIs the bit is of those alone (SDM 3C table 25-3).
    [[nodiscard]] constexpr bool nmis_are_blocked() const {
        return (interruptibility & vmx::interruptibility::blocking_by_nmi) != 0 &&
               !asked_for(vmx::pin::virtual_nmis);
    }
    [[nodiscard]] constexpr bool waits_for_start_up() const {
        return activity == vmx::ActivityState::wait_for_sipi;
    }
    // STI or MOV SS blocks until the next instruction is done. (Some processors refuse an NMI that is
    // injected with blocking by STI: SDM 3C 27.3.1.5.)
    [[nodiscard]] constexpr bool is_in_shadow() const {
        return (interruptibility &
                (vmx::interruptibility::blocking_by_mov_ss | vmx::interruptibility::blocking_by_sti)) != 0;
    }
    // A debug exception is due, which comes before NMIs and interrupts, and which an entry that injects
    // something, or an exit by one of those in its place, would lose (SDM 3C 27.7.3, 28.3.4).
    [[nodiscard]] constexpr bool has_debug_trap() const {
        return (pending_debug & (vmx::pending_debug::single_step | vmx::pending_debug::enabled_breakpoint)) !=
               0;
    }

    // Where the guest's hypervisor asked for NMI exits, its choice of virtual NMIs is not L0's to change:
    // with them the window tells of those alone, and without them no IRET of the guest's unblocks NMIs
    // (26.3).
    [[nodiscard]] constexpr bool nmi_window_is_l0s() const {
        return has_nmi_window && !asked_for(vmx::pin::nmi_exiting);
    }
    // L1 waits for a window of L2's itself, and L2 is about to exit for it. That of NMIs comes before an NMI,
    // that of interrupts before an external interrupt (26.2).
    [[nodiscard]] constexpr bool l1s_nmi_window_is_open() const {
        return (primary_processor_based & vmx::primary::nmi_window_exiting) != 0 &&
               (interruptibility & vmx::interruptibility::blocking_by_nmi) == 0;
    }
    [[nodiscard]] constexpr bool l1s_interrupt_window_is_open() const {
        return (primary_processor_based & vmx::primary::interrupt_window_exiting) != 0 && interrupts_enabled;
    }
    // No instruction has to be executed first: STI and MOV SS block no longer behind an event that the entry
    // injects (27.7.1).
    [[nodiscard]] constexpr bool is_behind_delivery() const {
        return has_timer && (waiting.is_valid() || !is_in_shadow());
    }
    // As soon as what the entry delivers, or the instruction, is over. Where STI blocks, the NMI window may
    // be open at once (26.2).
    [[nodiscard]] constexpr Window window_behind() const {
        const bool by_sti =
            !waiting.is_valid() && (interruptibility & vmx::interruptibility::blocking_by_sti) != 0;
        if (nmi_window_is_l0s() && !by_sti) return Window::nmis;
        return is_behind_delivery() ? Window::behind_delivery : Window::interrupts;
    }
    // The same of an event that neither RFLAGS.IF nor blocking by NMI keeps out, while they would a window.
    [[nodiscard]] constexpr Window window_behind_event() const {
        if (is_behind_delivery()) return Window::behind_delivery;
        return nmis_are_blocked() ? Window::interrupts : window_behind();
    }

    // Nothing blocks it; but what is on its way already comes first (SDM 3A table 6-4: one benign exception
    // behind another).
    [[nodiscard]] constexpr EventDecision machine_check() const {
        if (waiting.is_valid()) return {EventWay::waits, window_behind_event()};
        if (waits_for_start_up()) return {};
        if (!machine_checks_enabled) return {EventWay::shutdown};
        constexpr auto vector = static_cast<unsigned>(x86::Vector::machine_check);
        // The exit saves a debug exception that is due, an injection would lose it.
        if ((exception_bitmap >> vector & 1) != 0) return {EventWay::exit};
        if (has_debug_trap()) return {EventWay::waits, window_behind_event()};
        return {EventWay::injected};
    }

    [[nodiscard]] constexpr EventDecision init() const {
        if (!in_vmx_operation) return {EventWay::reset};
        // Blocked in VMX root operation (SDM 3C 24.8), and in that state (26.2).
        if (!in_l2 || waits_for_start_up()) return {};
        if (waiting.is_valid()) return {EventWay::waits, window_behind_event()};
        return {EventWay::exit};
    }

    [[nodiscard]] constexpr EventDecision start_up() const {
        if (!in_vmx_operation) return {EventWay::reset};
        return {in_l2 && waits_for_start_up() ? EventWay::exit : EventWay::discarded};
    }

    [[nodiscard]] constexpr EventDecision nmi() const {
        if (waits_for_start_up() || l1s_timer_has_ended) return {};
        if (nmis_are_blocked()) {
            // Without virtual NMIs an NMI may be injected although NMIs are blocked, with them not
            // (27.3.1.5).
            const bool injects_nmi = waiting.is_valid() && waiting.type() == vmx::InterruptionType::nmi;
            return {EventWay::waits, nmi_window_is_l0s() && !injects_nmi ? Window::nmis : Window::none};
        }
        if (waiting.is_valid() || is_in_shadow() || has_debug_trap())
            return {EventWay::waits, window_behind()};
        // It makes L2 exit, and L1 then gets the event.
        if (l1s_nmi_window_is_open()) return {};
        return {asked_for(vmx::pin::nmi_exiting) ? EventWay::exit : EventWay::injected};
    }

    [[nodiscard]] constexpr EventDecision external_interrupt() const {
        if (waits_for_start_up() || activity == vmx::ActivityState::shutdown || l1s_timer_has_ended)
            return {};
        const bool exits = asked_for(vmx::pin::external_interrupt_exiting);
        if (waiting.is_valid() || is_in_shadow() || has_debug_trap()) {
            if (exits && is_behind_delivery()) return {EventWay::waits, Window::behind_delivery};
            // Where L1 asked for the exit RFLAGS.IF does not matter (26.3), but for the window it does, and
            // an interrupt gate clears it. (Behind an NMI the other window may be closed for as long.)
            const bool gate_may_clear_if = waiting.is_valid() && waiting.type() != vmx::InterruptionType::nmi;
            const bool if_will_do = interrupts_enabled && !gate_may_clear_if;
            return {EventWay::waits, !exits || if_will_do ? Window::interrupts : window_behind_event()};
        }
        // It makes L2 exit, and L1 then gets the event.
        if (l1s_nmi_window_is_open() || l1s_interrupt_window_is_open()) return {};
        if (exits) return {EventWay::exit};
        return interrupts_enabled ? EventDecision{EventWay::injected}
                                  : EventDecision{EventWay::waits, Window::interrupts};
    }
};

}  // namespace flatback::nested
