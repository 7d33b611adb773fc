// vmcs02's controls: L1's, with what its host needs of every L2 besides. Pure: a function of two sets of
// controls.
#pragma once

#include <cstdint>

#include "../../vmx/controls.hpp"
#include "../../vmx/field.hpp"
#include "../vmcs/vmcs12.hpp"

namespace flatback::nested {

// What the host wants of an L2 whatever L1 asked for. L0 intercepts nothing of L2's for itself but MSRs, EPT
// violations and the few ports that a host may keep: every device is L1's, and so is every interrupt.
struct HostControls {
    std::uint32_t pin_based = 0;
    std::uint32_t primary = vmx::primary::activate_secondary_controls;
    std::uint32_t secondary = vmx::secondary::enable_ept;
    // A 64-bit host, and each of these registers known to it.
    std::uint32_t exit = vmx::exit_control::host_address_space_size | vmx::exit_control::save_debug_controls |
                         vmx::exit_control::save_ia32_pat | vmx::exit_control::load_ia32_pat |
                         vmx::exit_control::save_ia32_efer | vmx::exit_control::load_ia32_efer;
    std::uint32_t entry = vmx::entry_control::load_debug_controls | vmx::entry_control::load_ia32_pat |
                          vmx::entry_control::load_ia32_efer;
    // Bits that L2 finds clear, and faults when it sets them, but where L1's own mask comes first.
    std::uint64_t hidden_cr4 = 0;
    // The host has I/O bitmaps of its own. Where all I/O of L2's exits, they add nothing.
    bool keeps_ports = false;
};

struct ComposedControls {
    std::uint32_t pin_based = 0;
    std::uint32_t primary = 0;
    std::uint32_t secondary = 0;  // but for "enable VPID", which goes with the tag
    std::uint32_t exit = 0;
    std::uint32_t entry = 0;
    std::uint64_t cr4_guest_host_mask = 0;
    std::uint64_t cr4_read_shadow = 0;
    bool l1_uses_vpid = false;
    bool l1_uses_ept = false;

    friend constexpr bool operator==(const ComposedControls&, const ComposedControls&) = default;
};

// L1's secondary controls as the processor sees them: all zero where they are not activated.
[[nodiscard]] constexpr std::uint32_t secondary_controls_of(const Vmcs12& vmcs12) {
    return (vmcs12.get(vmx::field::primary_processor_based_vm_execution_controls) &
            vmx::primary::activate_secondary_controls) != 0
               ? vmcs12.get(vmx::field::secondary_processor_based_vm_execution_controls)
               : 0;
}

// vmcs12: with the newest values, and found good.
[[nodiscard]] constexpr ComposedControls compose(const Vmcs12& vmcs12, const HostControls& host) {
    namespace field = vmx::field;
    ComposedControls composed;
    const std::uint32_t secondary12 = secondary_controls_of(vmcs12);
    composed.l1_uses_vpid = (secondary12 & vmx::secondary::enable_vpid) != 0;
    composed.l1_uses_ept = (secondary12 & vmx::secondary::enable_ept) != 0;
    composed.pin_based = vmcs12.get(field::pin_based_vm_execution_controls) | host.pin_based;
    composed.primary = vmcs12.get(field::primary_processor_based_vm_execution_controls) | host.primary;
    if (host.keeps_ports && (composed.primary & vmx::primary::unconditional_io_exiting) == 0)
        composed.primary |= vmx::primary::use_io_bitmaps;
    composed.secondary = (secondary12 & ~vmx::secondary::enable_vpid) | host.secondary;
    // The timer goes on where it stood when the host took an exit for itself.
    const bool timer = (composed.pin_based & vmx::pin::activate_vmx_preemption_timer) != 0;
    composed.exit = vmcs12.get(field::vm_exit_controls) | host.exit |
                    (timer ? vmx::exit_control::save_vmx_preemption_timer_value : 0);
    composed.entry = vmcs12.get(field::vm_entry_controls) | host.entry;
    const std::uint64_t mask12 = vmcs12.get(field::cr4_guest_host_mask);
    composed.cr4_guest_host_mask = mask12 | host.hidden_cr4;
    composed.cr4_read_shadow = vmcs12.get(field::cr4_read_shadow) & ~(host.hidden_cr4 & ~mask12);
    return composed;
}

}  // namespace flatback::nested
