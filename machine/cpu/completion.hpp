#pragma once

#include <cstdint>
#include <optional>

#include "../../vmx/exit_reason.hpp"
#include "../../x86/vectors.hpp"

namespace flatback::machine {

/// An exception or an injected event, as the software that receives it sees it.
struct Event {
    std::uint8_t vector = 0;
    bool has_error_code = false;
    std::uint32_t error_code = 0;
    bool is_interrupt = false;  // an external one

    friend bool operator==(const Event&, const Event&) = default;
};

/// How one instruction ended.
struct Completion {
    enum class Kind : std::uint8_t {
        done,      // RIP is past it
        event,     // an exception was delivered to the software that ran it; RIP is still at it
        vm_exit,   // non-root operation ended; RIP is the host's
        vm_entry,  // a VM entry completed: non-root operation began
        idle,      // the processor is halted or shut down: nothing was executed, or this shut it down
    };

    Kind kind = Kind::done;
    /// `event`: the exception. `vm_entry`: what the entry injected. Where another exception arose in its
    /// delivery, that which was delivered in the end.
    std::optional<Event> event{};
    /// The event was delivered through the IDT: the registers are those of its handler.
    bool through_idt = false;
    /// The event that was on its way at first, when what is told here came of it: `vm_entry`, or `vm_exit` in
    /// the delivery of what came from outside or was injected.
    std::optional<Event> began{};
    /// `vm_exit`: the exit-reason field.
    vmx::ExitReasonField exit_reason{};
    /// A VMX instruction's VMfail with a reason that a person can read: which check it did not pass; else
    /// null.
    const char* failed_check = nullptr;
    /// After all of this an NMI was delivered, before the next instruction.
    bool nmi = false;
    /// ... or an external interrupt, or behind that NMI: its vector.
    std::optional<std::uint8_t> interrupt{};
};

}  // namespace flatback::machine
