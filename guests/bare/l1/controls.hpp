// The vocabulary of controls, and exit reasons as the numbers that VMREAD gives.
#pragma once

#include <cstdint>

#include "vmx/controls.hpp"
#include "vmx/exit_reason.hpp"

namespace flatback::guests {

namespace pin = vmx::pin;
namespace primary = vmx::primary;
namespace secondary = vmx::secondary;
namespace exit_control = vmx::exit_control;
namespace entry_control = vmx::entry_control;

namespace reason {

constexpr std::uint32_t number(vmx::ExitReason basic) {
    return static_cast<std::uint32_t>(basic);
}

constexpr std::uint32_t exception_or_nmi = number(vmx::ExitReason::exception_or_nmi);
constexpr std::uint32_t external_interrupt = number(vmx::ExitReason::external_interrupt);
constexpr std::uint32_t init_signal = number(vmx::ExitReason::init_signal);
constexpr std::uint32_t triple_fault = number(vmx::ExitReason::triple_fault);
constexpr std::uint32_t interrupt_window = number(vmx::ExitReason::interrupt_window);
constexpr std::uint32_t nmi_window = number(vmx::ExitReason::nmi_window);
constexpr std::uint32_t cpuid = number(vmx::ExitReason::cpuid);
constexpr std::uint32_t hlt = number(vmx::ExitReason::hlt);
constexpr std::uint32_t invlpg = number(vmx::ExitReason::invlpg);
constexpr std::uint32_t rdtsc = number(vmx::ExitReason::rdtsc);
constexpr std::uint32_t vmcall = number(vmx::ExitReason::vmcall);
constexpr std::uint32_t vmclear = number(vmx::ExitReason::vmclear);
constexpr std::uint32_t vmlaunch = number(vmx::ExitReason::vmlaunch);
constexpr std::uint32_t vmptrld = number(vmx::ExitReason::vmptrld);
constexpr std::uint32_t vmptrst = number(vmx::ExitReason::vmptrst);
constexpr std::uint32_t vmread = number(vmx::ExitReason::vmread);
constexpr std::uint32_t vmresume = number(vmx::ExitReason::vmresume);
constexpr std::uint32_t vmwrite = number(vmx::ExitReason::vmwrite);
constexpr std::uint32_t vmxoff = number(vmx::ExitReason::vmxoff);
constexpr std::uint32_t vmxon = number(vmx::ExitReason::vmxon);
constexpr std::uint32_t control_register_access = number(vmx::ExitReason::control_register_access);
constexpr std::uint32_t mov_dr = number(vmx::ExitReason::mov_dr);
constexpr std::uint32_t io_instruction = number(vmx::ExitReason::io_instruction);
constexpr std::uint32_t rdmsr = number(vmx::ExitReason::rdmsr);
constexpr std::uint32_t wrmsr = number(vmx::ExitReason::wrmsr);
constexpr std::uint32_t entry_failure_guest_state = number(vmx::ExitReason::entry_failure_guest_state);
constexpr std::uint32_t entry_failure_msr_loading = number(vmx::ExitReason::entry_failure_msr_loading);
constexpr std::uint32_t gdtr_or_idtr_access = number(vmx::ExitReason::gdtr_or_idtr_access);
constexpr std::uint32_t ldtr_or_tr_access = number(vmx::ExitReason::ldtr_or_tr_access);
constexpr std::uint32_t ept_violation = number(vmx::ExitReason::ept_violation);
constexpr std::uint32_t ept_misconfiguration = number(vmx::ExitReason::ept_misconfiguration);
constexpr std::uint32_t page_modification_log_full = number(vmx::ExitReason::page_modification_log_full);
constexpr std::uint32_t invept = number(vmx::ExitReason::invept);
constexpr std::uint32_t vmx_preemption_timer_expired = number(vmx::ExitReason::vmx_preemption_timer_expired);
constexpr std::uint32_t invvpid = number(vmx::ExitReason::invvpid);
constexpr std::uint32_t wbinvd_or_wbnoinvd = number(vmx::ExitReason::wbinvd_or_wbnoinvd);

// The flag beside the basic reason.
constexpr std::uint32_t entry_failure = vmx::ExitReasonField::entry_failure_bit;

}  // namespace reason

}  // namespace flatback::guests
