// Who handles an exit of L2's: the SDM's list of exit reasons (SDM 3D appendix C) as one table. Of itself the
// engine intercepts almost nothing, so that nearly every exit happened because L1 asked for it or because it
// is unconditional. Where the host has demands (nested/demands.hpp), the reasons that these may have go to
// the host first.
#pragma once

#include <array>
#include <cstdint>

#include "../../vmx/controls.hpp"
#include "../../vmx/exit_qualification.hpp"
#include "../../vmx/exit_reason.hpp"
#include "../counters.hpp"
#include "../demands.hpp"

namespace flatback::nested {

enum class Route : std::uint8_t {
    to_l1,                 // L1 asked for it, or it is unconditional
    by_ept12,              // L1 sees it only where its own EPT does not allow the access
    by_msr_bitmap,         // L1 sees it where its bitmap, or having none, says so
    by_cr4_mask,           // L1 sees it but where it is CR4 and only L0's mask made it
    by_io_bitmap,          // as by_msr_bitmap, where the host keeps ports
    by_vmcs_bitmap,        // as by_msr_bitmap, of L2's VMREADs and VMWRITEs
    by_posted_interrupts,  // L1 sees it but where it notifies L2 of posted interrupts
    by_window,             // L1 sees it but where L0 waits for it, or with it, to give an event
    not_there,             // L0's: an instruction that L1's processor does not have
    after_move,            // L2 was moved to another processor: as without that, and vmcs01 is not launched
    to_host_first,         // the host sees it where it asked for it; else as without demands
    never,                 // cannot happen: nobody asked for it
};

inline constexpr auto routes = [] {
    using enum vmx::ExitReason;
    std::array<Route, exit_reason_count> table;
    for (Route& route : table) route = Route::to_l1;
    const auto set = [&](vmx::ExitReason reason, Route route) {
        table[static_cast<std::size_t>(reason)] = route;
    };
    set(ept_violation, Route::by_ept12);
    set(ept_misconfiguration, Route::by_ept12);
    set(rdmsr, Route::by_msr_bitmap);
    set(wrmsr, Route::by_msr_bitmap);
    set(control_register_access, Route::by_cr4_mask);
    set(encls, Route::not_there);
    // Not offered to L1 and not used by L0.
    set(monitor_trap_flag, Route::never);
    set(virtualized_eoi, Route::never);
    set(page_modification_log_full, Route::never);  // L1's log is L0's, by EPT violations
    set(spp_related_event, Route::never);
    return table;
}();

// The control by which an instruction exits with this reason, of those that a host may demand; 0: none. MOV
// to and from control registers have one reason for several.
[[nodiscard]] constexpr std::uint32_t instruction_control_of(vmx::ExitReason reason) {
    switch (reason) {
        case vmx::ExitReason::hlt:
            return vmx::primary::hlt_exiting;
        case vmx::ExitReason::invlpg:
        case vmx::ExitReason::invpcid:
            return vmx::primary::invlpg_exiting;
        case vmx::ExitReason::mwait:
            return vmx::primary::mwait_exiting;
        case vmx::ExitReason::rdpmc:
            return vmx::primary::rdpmc_exiting;
        case vmx::ExitReason::rdtsc:
        case vmx::ExitReason::rdtscp:
            return vmx::primary::rdtsc_exiting;
        case vmx::ExitReason::mov_dr:
            return vmx::primary::mov_dr_exiting;
        case vmx::ExitReason::monitor:
            return vmx::primary::monitor_exiting;
        case vmx::ExitReason::pause:
            return vmx::primary::pause_exiting;
        default:
            return 0;
    }
}

// ... of the secondary controls ...
[[nodiscard]] constexpr std::uint32_t secondary_control_of(vmx::ExitReason reason) {
    switch (reason) {
        case vmx::ExitReason::wbinvd_or_wbnoinvd:
            return vmx::secondary::wbinvd_exiting;
        case vmx::ExitReason::gdtr_or_idtr_access:
        case vmx::ExitReason::ldtr_or_tr_access:
            return vmx::secondary::descriptor_table_exiting;
        case vmx::ExitReason::rdrand:
            return vmx::secondary::rdrand_exiting;
        case vmx::ExitReason::rdseed:
            return vmx::secondary::rdseed_exiting;
        default:
            return 0;
    }
}

// ... and by which this access exits. CR3 and CR8 alone (SDM 3C table 28-3).
[[nodiscard]] constexpr std::uint32_t control_of(vmx::ControlRegisterAccess access) {
    using enum vmx::ControlRegisterAccess::Kind;
    if (access.kind != mov_to && access.kind != mov_from) return 0;
    const bool loads = access.kind == mov_to;
    if (access.control_register == 3)
        return loads ? vmx::primary::cr3_load_exiting : vmx::primary::cr3_store_exiting;
    if (access.control_register == 8)
        return loads ? vmx::primary::cr8_load_exiting : vmx::primary::cr8_store_exiting;
    return 0;
}

// Whether these demands may be a reason for exits of this kind.
[[nodiscard]] constexpr bool may_be_demanded(const Demands& demands, vmx::ExitReason reason) {
    switch (reason) {
        case vmx::ExitReason::exception_or_nmi:
            return demands.exceptions != 0;
        case vmx::ExitReason::external_interrupt:
            return demands.external_interrupts;
        case vmx::ExitReason::io_instruction:
            return demands.all_ports || demands.kept_ports;
        case vmx::ExitReason::vmx_preemption_timer_expired:
            return demands.turn_ends.has_value();
        case vmx::ExitReason::control_register_access:
            return (demands.cr0_mask | demands.cr4_mask) != 0 ||
                   (demands.instructions &
                    (vmx::primary::cr3_load_exiting | vmx::primary::cr3_store_exiting |
                     vmx::primary::cr8_load_exiting | vmx::primary::cr8_store_exiting)) != 0;
        case vmx::ExitReason::rdmsr:
        case vmx::ExitReason::wrmsr:
            return demands.kept_msrs;
        default:
            return (demands.instructions & instruction_control_of(reason)) != 0 ||
                   (demands.secondary_instructions & secondary_control_of(reason)) != 0;
    }
}

// Those that go by_window while L0 waits with an event, else to_l1; the first always where all NMIs are the
// host's.
inline constexpr std::array window_exits{vmx::ExitReason::exception_or_nmi, vmx::ExitReason::interrupt_window,
                                         vmx::ExitReason::nmi_window,
                                         vmx::ExitReason::vmx_preemption_timer_expired};

}  // namespace flatback::nested
