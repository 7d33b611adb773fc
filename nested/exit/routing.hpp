// Who handles an exit of L2's: the SDM's list of exit reasons (SDM 3D appendix C) as one table. L0 intercepts
// almost nothing for itself, so that nearly every exit happened because L1 asked for it or because it is
// unconditional.
#pragma once

#include <array>
#include <cstdint>

#include "../../vmx/exit_reason.hpp"
#include "../counters.hpp"

namespace flatback::nested {

enum class Route : std::uint8_t {
    to_l1,          // L1 asked for it, or it is unconditional
    by_ept12,       // L1 sees it only where its own EPT does not allow the access
    by_msr_bitmap,  // L1 sees it where its bitmap, or having none, says so
    by_cr4_mask,    // L1 sees it but where it is CR4 and only L0's mask made it
    by_io_bitmap,   // as by_msr_bitmap, where the host keeps ports
    by_nmi_window,  // L1 sees it but where L0 waits for it, or with it, to give an NMI
    not_there,      // L0's: an instruction that L1's processor does not have
    never,          // cannot happen: nobody asked for it
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
    set(page_modification_log_full, Route::never);
    set(spp_related_event, Route::never);
    return table;
}();

// Those that go by_nmi_window while L0 waits with an NMI, else to_l1; the first always where all NMIs are the
// host's.
inline constexpr std::array nmi_window_exits{vmx::ExitReason::exception_or_nmi,
                                             vmx::ExitReason::interrupt_window, vmx::ExitReason::nmi_window};

}  // namespace flatback::nested
