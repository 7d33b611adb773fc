// L1's exits that are no VMX instruction's: those that come whether they are asked for or not, and the few
// that vmcs01 asks for (host/vmcs01.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include "../nested/counters.hpp"
#include "../vmx/exit_qualification.hpp"
#include "../vmx/exit_reason.hpp"
#include "../vmx/interruption.hpp"
#include "control_register_access.hpp"
#include "cpuid.hpp"
#include "extended_control.hpp"
#include "l1.hpp"

namespace flatback::host {

// RDMSR and WRMSR, but for RIP.
template <nested::Port P, Processor M>
[[nodiscard, gnu::always_inline]] inline Outcome emulate_rdmsr(L1<P, M>& l1) {
    const auto value = l1.vcpu().read_guest_msr(static_cast<std::uint32_t>(l1.general_register(1)));
    if (!value) return Outcome::general_protection;
    l1.general_register(0) = *value & 0xffffffff;
    l1.general_register(2) = *value >> 32;
    return Outcome::done;
}

template <nested::Port P, Processor M>
[[nodiscard, gnu::always_inline]] inline Outcome emulate_wrmsr(L1<P, M>& l1) {
    const std::uint64_t value = (l1.general_register(2) << 32) | (l1.general_register(0) & 0xffffffff);
    if (!l1.vcpu().write_guest_msr(static_cast<std::uint32_t>(l1.general_register(1)), value))
        return Outcome::general_protection;
    l1.vcpu().l1_msr_changed();
    return Outcome::done;
}

// INVD, but for RIP: nothing may be lost, so that it writes back.
template <nested::Port P, Processor M>
[[nodiscard]] Outcome emulate_invd(L1<P, M>& l1) {
    const x86::AccessRights stack{l1.get(vmx::field::guest_ss_access_rights)};
    if (stack.privilege_level() != 0) return Outcome::general_protection;  // as for XSETBV
    l1.write_back_caches();
    return Outcome::done;
}

// An exit of L1's that is no failed entry; afterwards L1 is entered by VMRESUME. False: nothing was done, and
// the exit is the hypervisor's own (a triple fault, INIT, a task switch, or what it has exit for itself).
template <nested::Port P, Processor M>
[[nodiscard]] bool handle_l1_exit(L1<P, M>& l1, vmx::ExitReason reason) {
    using enum vmx::ExitReason;
    Outcome outcome = Outcome::done;
    switch (reason) {
        case cpuid:
            emulate_cpuid(l1);
            break;
        case rdmsr:
            outcome = emulate_rdmsr(l1);
            break;
        case wrmsr:
            outcome = emulate_wrmsr(l1);
            break;
        case control_register_access:
            outcome = emulate_control_register_access(l1);
            break;
        case xsetbv:
            outcome = emulate_xsetbv(l1);
            break;
        case invd:
            outcome = emulate_invd(l1);
            break;
        case getsec:
        case encls:
            outcome = Outcome::invalid_opcode;
            break;
        case ept_violation:
            if (l1.port().handle_ept01_violation(l1.get(vmx::field::guest_physical_address))) {
                l1.vcpu().l1_writes_noticed_page();
                l1.vcpu().retry_l1();
                return true;
            }
            outcome = Outcome::general_protection;
            break;
        case io_instruction:
            if constexpr (requires { l1.port().handle_io(); }) {
                if (vmx::IoAccess::decode(l1.get(vmx::field::exit_qualification)).is_string &&
                    l1.vcpu().string_io()) {
                    return true;
                }
                outcome = l1.port().handle_io() ? Outcome::done : Outcome::general_protection;
                break;
            } else {
                return false;
            }
        case interrupt_window:
        case nmi_window:
            l1.vcpu().close_window();  // the event that it was opened for is delivered now
            return true;
        case exception_or_nmi:
            if (vmx::InterruptionInformation{l1.get(vmx::field::vm_exit_interruption_information)} !=
                vmx::InterruptionInformation::nmi()) {
                return false;
            }
            l1.vcpu().close_window();
            l1.port().return_nmi();  // one that came while another waits, which the processor keeps as one
            return true;
        default:
            // An instruction that is not known here and that exits unasked, as SEAMCALL and TDCALL do where
            // the processor has TDX: L1's processor does not have it.
            if (static_cast<std::size_t>(reason) < nested::exit_reason_count) return false;
            outcome = Outcome::invalid_opcode;
    }
    if (outcome == Outcome::not_handled) return false;
    l1.conclude(outcome);
    return true;
}

}  // namespace flatback::host
