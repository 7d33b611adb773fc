// Checks on the guest's non-register state (SDM 3C 27.3.1.5): activity, interruptibility, pending debug
// exceptions and the VMCS link pointer.
#pragma once

#include <cstdint>

#include "../../vmx/controls.hpp"
#include "../../x86/exception.hpp"
#include "../../x86/segment.hpp"
#include "checks_rules.hpp"

namespace flatback::nested {

namespace detail {

// The events that may be injected into a processor that is not active (SDM 3C 27.3.1.5).
[[nodiscard]] constexpr bool permits_injection(vmx::ActivityState state, vmx::InterruptionInformation event) {
    using vmx::InterruptionType;
    const bool machine_check = event.is_hardware_exception(x86::Vector::machine_check);
    const bool nmi = event.type() == InterruptionType::nmi;
    switch (state) {
        case vmx::ActivityState::active:
            return true;
        case vmx::ActivityState::hlt:
            return event.type() == InterruptionType::external_interrupt || nmi || machine_check ||
                   event.is_hardware_exception(x86::Vector::debug) ||
                   event.type() == InterruptionType::other_event;
        case vmx::ActivityState::shutdown:
            return nmi || machine_check;
        case vmx::ActivityState::wait_for_sipi:
            return false;
    }
    return false;
}

[[nodiscard]] constexpr bool supports_activity(vmx::MiscCapability misc, std::uint32_t state) {
    switch (static_cast<vmx::ActivityState>(state)) {
        case vmx::ActivityState::active:
            return true;
        case vmx::ActivityState::hlt:
            return misc.has_activity_hlt();
        case vmx::ActivityState::shutdown:
            return misc.has_activity_shutdown();
        case vmx::ActivityState::wait_for_sipi:
            return misc.has_activity_wait_for_sipi();
    }
    return false;
}

}  // namespace detail

// Activity state (SDM 3C 27.3.1.5).
template <VmcsView View>
[[nodiscard]] constexpr EntryVerdict check_guest_activity_state(const View& view, const EntryRules& rules) {
    namespace field = vmx::field;
    using detail::broken;
    const std::uint32_t value = view.get(field::guest_activity_state);
    if (!detail::supports_activity(rules.promised.misc, value))
        return broken(EntryCheck::activity_state_supported);
    const auto state = static_cast<vmx::ActivityState>(value);
    if (state == vmx::ActivityState::active) return {};

    constexpr std::uint32_t blocking =
        vmx::interruptibility::blocking_by_sti | vmx::interruptibility::blocking_by_mov_ss;
    if (state == vmx::ActivityState::hlt &&
        x86::AccessRights{view.get(field::guest_ss_access_rights)}.privilege_level() != 0) {
        return broken(EntryCheck::activity_hlt_needs_dpl_zero);
    }
    if ((view.get(field::guest_interruptibility_state) & blocking) != 0) {
        return broken(EntryCheck::activity_needs_no_blocking);
    }
    const vmx::InterruptionInformation event = detail::injected_event(view);
    if (event.is_valid() && !detail::permits_injection(state, event)) {
        return broken(EntryCheck::activity_permits_injection);
    }
    if (state == vmx::ActivityState::wait_for_sipi &&
        (view.get(field::vm_entry_controls) & vmx::entry_control::entry_to_smm) != 0) {
        return broken(EntryCheck::activity_wait_for_sipi_excludes_entry_to_smm);
    }
    return {};
}

// Interruptibility state (SDM 3C 27.3.1.5). A processor may also refuse to inject an NMI while there is
// blocking by STI; this one does not.
template <VmcsView View>
[[nodiscard]] constexpr EntryVerdict check_guest_interruptibility(const View& view, const EntryRules& rules,
                                                                  const EntryContext& context) {
    namespace field = vmx::field;
    namespace bit = vmx::interruptibility;
    using detail::broken;
    const std::uint32_t state = view.get(field::guest_interruptibility_state);
    const bool by_sti = (state & bit::blocking_by_sti) != 0;
    const bool by_mov_ss = (state & bit::blocking_by_mov_ss) != 0;
    const bool entry_to_smm = (view.get(field::vm_entry_controls) & vmx::entry_control::entry_to_smm) != 0;
    const vmx::InterruptionInformation event = detail::injected_event(view);
    const bool injects_interrupt =
        event.is_valid() && event.type() == vmx::InterruptionType::external_interrupt;
    const bool injects_nmi = event.is_valid() && event.type() == vmx::InterruptionType::nmi;

    if ((state & bit::reserved_bits) != 0) return broken(EntryCheck::interruptibility_reserved_bits);
    if (by_sti && by_mov_ss) return broken(EntryCheck::interruptibility_sti_and_mov_ss);
    if (by_sti && (view.get(field::guest_rflags) & x86::rflags::interrupt_enable) == 0) {
        return broken(EntryCheck::interruptibility_sti_needs_interrupt_flag);
    }
    if (injects_interrupt && (by_sti || by_mov_ss)) {
        return broken(EntryCheck::interruptibility_permits_external_interrupt);
    }
    if (injects_nmi && by_mov_ss) return broken(EntryCheck::interruptibility_permits_nmi);
    const bool by_smi = (state & bit::blocking_by_smi) != 0;
    if ((by_smi && !context.in_smm) || (!by_smi && entry_to_smm)) {
        return broken(EntryCheck::interruptibility_smi_outside_smm);
    }
    if (injects_nmi && (state & bit::blocking_by_nmi) != 0 &&
        (view.get(field::pin_based_vm_execution_controls) & vmx::pin::virtual_nmis) != 0) {
        return broken(EntryCheck::interruptibility_virtual_nmi);
    }
    if ((state & bit::enclave_interruption) != 0 && (by_mov_ss || !rules.has_sgx)) {
        return broken(EntryCheck::interruptibility_enclave);
    }
    return {};
}

// Pending debug exceptions (SDM 3C 27.3.1.5).
template <VmcsView View>
[[nodiscard]] constexpr EntryVerdict check_guest_pending_debug_exceptions(const View& view,
                                                                          const EntryRules& rules) {
    namespace field = vmx::field;
    namespace bit = vmx::pending_debug;
    using detail::broken;
    const std::uint64_t pending = view.get(field::guest_pending_debug_exceptions);
    const std::uint32_t interruptibility = view.get(field::guest_interruptibility_state);
    const bool by_mov_ss = (interruptibility & vmx::interruptibility::blocking_by_mov_ss) != 0;
    const bool held =
        by_mov_ss || (interruptibility & vmx::interruptibility::blocking_by_sti) != 0 ||
        view.get(field::guest_activity_state) == static_cast<std::uint32_t>(vmx::ActivityState::hlt);

    if ((pending & bit::reserved_bits) != 0) return broken(EntryCheck::pending_debug_reserved_bits);
    if (held) {
        // A single-step trap is pending exactly where stepping is on.
        const bool stepping = (view.get(field::guest_rflags) & x86::rflags::trap) != 0 &&
                              (view.get(field::guest_ia32_debugctl) & x86::debugctl::branch_single_step) == 0;
        if (((pending & bit::single_step) != 0) != stepping)
            return broken(EntryCheck::pending_debug_single_step);
    }
    if ((pending & bit::in_transaction) != 0 &&
        (pending != (bit::in_transaction | bit::enabled_breakpoint) || !rules.has_rtm || by_mov_ss)) {
        return broken(EntryCheck::pending_debug_transaction);
    }
    return {};
}

// VMCS link pointer (SDM 3C 27.3.1.5).
template <VmcsView View, typename Memory = NoMemory>
[[nodiscard]] constexpr EntryVerdict check_vmcs_link_pointer(const View& view, const EntryRules& rules,
                                                             const EntryContext& context = {},
                                                             const Memory& memory = {}) {
    using detail::broken;
    const std::uint64_t pointer = view.get(vmx::field::vmcs_link_pointer);
    if (pointer == ~std::uint64_t{0}) return {};
    if (!rules.is_structure_address(pointer)) return broken(EntryCheck::vmcs_link_pointer_address);
    if constexpr (ReadableMemory<Memory>) {
        const auto header = memory.template read<std::uint32_t>(pointer);
        const bool shadowing =
            (detail::effective_secondary_controls(view) & vmx::secondary::vmcs_shadowing) != 0;
        if ((header & vmx::BasicCapability::revision_mask) != rules.promised.basic.revision()) {
            return broken(EntryCheck::vmcs_link_pointer_revision);
        }
        if ((header >> 31 != 0) != shadowing) return broken(EntryCheck::vmcs_link_pointer_shadow_indicator);
    }
    const bool entry_to_smm =
        (view.get(vmx::field::vm_entry_controls) & vmx::entry_control::entry_to_smm) != 0;
    if ((!context.in_smm || entry_to_smm) && pointer == context.current_vmcs) {
        return broken(EntryCheck::vmcs_link_pointer_not_current);
    }
    return {};
}

}  // namespace flatback::nested
