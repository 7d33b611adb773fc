// Checks on VMX controls (SDM 3C 27.2.1). A failure is VMfailValid with error 7.
#pragma once

#include <cstdint>

#include "../../vmx/controls.hpp"
#include "../../vmx/ept.hpp"
#include "../../x86/exception.hpp"
#include "checks_rules.hpp"

namespace flatback::nested {

namespace detail {

// An MSR list of count entries of 16 bytes (SDM 3C 27.2.1.2): aligned, and its last byte within the width
// too.
[[nodiscard]] constexpr bool is_msr_area(const EntryRules& rules, std::uint64_t address,
                                         std::uint32_t count) {
    if (count == 0) return true;
    if (!rules.is_structure_address(address, 16)) return false;
    // Cannot wrap: the address is below 2^52 and the count below 2^32.
    return x86::fits_physical_width(address + std::uint64_t{count} * 16 - 1, rules.physical_address_width);
}

// The part of 27.2.1.1 that the secondary controls and their fields make up.
template <VmcsView View>
[[nodiscard]] constexpr EntryVerdict check_secondary_controls(const View& view, const EntryRules& rules,
                                                              std::uint32_t pin_based,
                                                              std::uint32_t secondary) {
    namespace field = vmx::field;
    namespace bit = vmx::secondary;
    const bool ept = (secondary & bit::enable_ept) != 0;

    if ((secondary & bit::virtualize_apic_accesses) != 0 &&
        !rules.is_structure_address(view.get(field::apic_access_address))) {
        return broken(EntryCheck::apic_access_address);
    }
    if ((view.get(field::primary_processor_based_vm_execution_controls) & vmx::primary::use_tpr_shadow) ==
        0) {
        if ((secondary & bit::virtualize_x2apic_mode) != 0) {
            return broken(EntryCheck::virtualize_x2apic_mode_needs_tpr_shadow);
        }
        if ((secondary & bit::apic_register_virtualization) != 0) {
            return broken(EntryCheck::apic_register_virtualization_needs_tpr_shadow);
        }
        if ((secondary & bit::virtual_interrupt_delivery) != 0) {
            return broken(EntryCheck::virtual_interrupt_delivery_needs_tpr_shadow);
        }
    }
    if ((secondary & bit::virtualize_x2apic_mode) != 0 && (secondary & bit::virtualize_apic_accesses) != 0) {
        return broken(EntryCheck::virtualize_x2apic_mode_excludes_apic_accesses);
    }
    if ((secondary & bit::virtual_interrupt_delivery) != 0 &&
        (pin_based & vmx::pin::external_interrupt_exiting) == 0) {
        return broken(EntryCheck::virtual_interrupt_delivery_needs_external_interrupt_exiting);
    }
    if ((secondary & bit::enable_vpid) != 0 && view.get(field::virtual_processor_identifier) == 0) {
        return broken(EntryCheck::vpid_not_zero);
    }
    if (ept && !vmx::Eptp{view.get(field::ept_pointer)}.is_valid(rules.promised.ept_vpid,
                                                                 rules.physical_address_width)) {
        return broken(EntryCheck::ept_pointer);
    }
    if ((secondary & bit::enable_pml) != 0) {
        if (!ept) return broken(EntryCheck::pml_needs_ept);
        if (!rules.is_structure_address(view.get(field::pml_address))) return broken(EntryCheck::pml_address);
    }
    if ((secondary & bit::unrestricted_guest) != 0 && !ept)
        return broken(EntryCheck::unrestricted_guest_needs_ept);
    if ((secondary & bit::mode_based_execute_control) != 0 && !ept) {
        return broken(EntryCheck::mode_based_execute_control_needs_ept);
    }
    if ((secondary & bit::enable_vm_functions) != 0) {
        const std::uint64_t functions = view.get(field::vm_function_controls);
        if ((functions & ~rules.promised.vm_functions) != 0)
            return broken(EntryCheck::vm_function_reserved_bits);
        if ((functions & vmx::vm_function::eptp_switching) != 0) {
            if (!ept) return broken(EntryCheck::eptp_switching_needs_ept);
            if (!rules.is_structure_address(view.get(field::eptp_list_address))) {
                return broken(EntryCheck::eptp_list_address);
            }
        }
    }
    if ((secondary & bit::vmcs_shadowing) != 0) {
        if (!rules.is_structure_address(view.get(field::vmread_bitmap_address))) {
            return broken(EntryCheck::vmread_bitmap_address);
        }
        if (!rules.is_structure_address(view.get(field::vmwrite_bitmap_address))) {
            return broken(EntryCheck::vmwrite_bitmap_address);
        }
    }
    if ((secondary & bit::ept_violation_ve) != 0 &&
        !rules.is_structure_address(view.get(field::virtualization_exception_information_address))) {
        return broken(EntryCheck::virtualization_exception_address);
    }
    if ((secondary & bit::use_tsc_scaling) != 0 && view.get(field::tsc_multiplier) == 0) {
        return broken(EntryCheck::tsc_multiplier_not_zero);
    }
    return {};
}

}  // namespace detail

// The TPR threshold against the virtual TPR in memory (SDM 3C 27.2.1.1). The guest's writes change the
// latter, so this one is due at every entry with "use TPR shadow".
template <VmcsView View, ReadableMemory Memory>
[[nodiscard]] constexpr EntryVerdict check_tpr_threshold(const View& view, const Memory& memory) {
    constexpr std::uint32_t lifts =
        vmx::secondary::virtualize_apic_accesses | vmx::secondary::virtual_interrupt_delivery;
    constexpr std::uint64_t virtual_tpr_offset = 0x80;
    if ((view.get(vmx::field::primary_processor_based_vm_execution_controls) &
         vmx::primary::use_tpr_shadow) == 0 ||
        (detail::effective_secondary_controls(view) & lifts) != 0) {
        return {};
    }
    const std::uint64_t page = view.get(vmx::field::virtual_apic_address);
    const auto virtual_tpr = memory.template read<std::uint8_t>(page + virtual_tpr_offset);
    if ((view.get(vmx::field::tpr_threshold) & 0xf) > static_cast<std::uint32_t>(virtual_tpr >> 4)) {
        return detail::broken(EntryCheck::tpr_threshold_not_above_virtual_tpr);
    }
    return {};
}

// VM-execution control fields (SDM 3C 27.2.1.1), but for what is in memory.
template <VmcsView View>
[[nodiscard]] constexpr EntryVerdict check_execution_controls(const View& view, const EntryRules& rules) {
    namespace field = vmx::field;
    using detail::broken;
    const std::uint32_t pin_based = view.get(field::pin_based_vm_execution_controls);
    const std::uint32_t primary = view.get(field::primary_processor_based_vm_execution_controls);
    const std::uint32_t secondary = detail::effective_secondary_controls(view);

    if (!rules.promised.pin_based.permits(pin_based)) return broken(EntryCheck::pin_based_reserved_bits);
    if (!rules.promised.primary_processor_based.permits(primary)) {
        return broken(EntryCheck::primary_processor_based_reserved_bits);
    }
    if ((primary & vmx::primary::activate_secondary_controls) != 0 &&
        !rules.promised.secondary_processor_based.permits(secondary)) {
        return broken(EntryCheck::secondary_processor_based_reserved_bits);
    }
    if (view.get(field::cr3_target_count) > rules.promised.misc.cr3_target_count()) {
        return broken(EntryCheck::cr3_target_count_within_limit);
    }
    if ((primary & vmx::primary::use_io_bitmaps) != 0) {
        if (!rules.is_structure_address(view.get(field::address_of_io_bitmap_a))) {
            return broken(EntryCheck::io_bitmap_a_address);
        }
        if (!rules.is_structure_address(view.get(field::address_of_io_bitmap_b))) {
            return broken(EntryCheck::io_bitmap_b_address);
        }
    }
    if ((primary & vmx::primary::use_msr_bitmaps) != 0 &&
        !rules.is_structure_address(view.get(field::address_of_msr_bitmaps))) {
        return broken(EntryCheck::msr_bitmap_address);
    }
    if ((primary & vmx::primary::use_tpr_shadow) != 0) {
        if (!rules.is_structure_address(view.get(field::virtual_apic_address))) {
            return broken(EntryCheck::virtual_apic_address);
        }
        if ((secondary & vmx::secondary::virtual_interrupt_delivery) == 0 &&
            view.get(field::tpr_threshold) > 0xf) {
            return broken(EntryCheck::tpr_threshold_reserved_bits);
        }
    }
    if ((pin_based & vmx::pin::virtual_nmis) != 0 && (pin_based & vmx::pin::nmi_exiting) == 0) {
        return broken(EntryCheck::virtual_nmis_need_nmi_exiting);
    }
    if ((primary & vmx::primary::nmi_window_exiting) != 0 && (pin_based & vmx::pin::virtual_nmis) == 0) {
        return broken(EntryCheck::nmi_window_exiting_needs_virtual_nmis);
    }
    if ((pin_based & vmx::pin::process_posted_interrupts) != 0) {
        if ((secondary & vmx::secondary::virtual_interrupt_delivery) == 0) {
            return broken(EntryCheck::posted_interrupts_need_virtual_interrupt_delivery);
        }
        if ((view.get(field::vm_exit_controls) & vmx::exit_control::acknowledge_interrupt_on_exit) == 0) {
            return broken(EntryCheck::posted_interrupts_need_acknowledge_on_exit);
        }
        if (view.get(field::posted_interrupt_notification_vector) > 0xff) {
            return broken(EntryCheck::posted_interrupt_vector);
        }
        if (!rules.is_structure_address(view.get(field::posted_interrupt_descriptor_address), 64)) {
            return broken(EntryCheck::posted_interrupt_descriptor_address);
        }
    }
    return secondary == 0 ? EntryVerdict{}
                          : detail::check_secondary_controls(view, rules, pin_based, secondary);
}

// VM-exit control fields (SDM 3C 27.2.1.2).
template <VmcsView View>
[[nodiscard]] constexpr EntryVerdict check_exit_controls(const View& view, const EntryRules& rules) {
    namespace field = vmx::field;
    using detail::broken;
    const std::uint32_t controls = view.get(field::vm_exit_controls);
    if (!rules.promised.vm_exit.permits(controls)) return broken(EntryCheck::exit_reserved_bits);
    if ((controls & vmx::exit_control::save_vmx_preemption_timer_value) != 0 &&
        (view.get(field::pin_based_vm_execution_controls) & vmx::pin::activate_vmx_preemption_timer) == 0) {
        return broken(EntryCheck::save_preemption_timer_needs_timer);
    }
    if (!detail::is_msr_area(rules, view.get(field::vm_exit_msr_store_address),
                             view.get(field::vm_exit_msr_store_count))) {
        return broken(EntryCheck::exit_msr_store_area);
    }
    if (!detail::is_msr_area(rules, view.get(field::vm_exit_msr_load_address),
                             view.get(field::vm_exit_msr_load_count))) {
        return broken(EntryCheck::exit_msr_load_area);
    }
    return {};
}

// The event-injection fields (SDM 3C 27.2.1.3). Due at every entry that injects: L1 rewrites them, and the
// guest's CR0.PE matters too.
template <VmcsView View>
[[nodiscard]] constexpr EntryVerdict check_event_injection(const View& view, const EntryRules& rules) {
    namespace field = vmx::field;
    using detail::broken;
    using vmx::InterruptionType;
    const vmx::InterruptionInformation event = detail::injected_event(view);
    if (!event.is_valid()) return {};

    const InterruptionType type = event.type();
    const std::uint8_t vector = event.vector();
    if (type == InterruptionType::reserved) return broken(EntryCheck::injection_type);
    if (type == InterruptionType::other_event &&
        !rules.promised.primary_processor_based.may_set(vmx::primary::monitor_trap_flag)) {
        return broken(EntryCheck::injection_type);
    }
    if ((type == InterruptionType::nmi && vector != 2) ||
        (type == InterruptionType::hardware_exception && vector > 31) ||
        (type == InterruptionType::other_event && vector != 0)) {
        return broken(EntryCheck::injection_vector);
    }

    // As the editions say that know IA32_VMX_BASIC[56]: by CR0.PE alone. Those before them wanted an error
    // code in real mode too where "unrestricted guest" is 0; such an entry fails in any case (27.3.1.1).
    const bool may_have_error_code = type == InterruptionType::hardware_exception &&
                                     (view.get(field::guest_cr0) & x86::cr0::protection_enable) != 0;
    if (!may_have_error_code) {
        if (event.has_error_code()) return broken(EntryCheck::injection_error_code_unwanted);
    } else if (!rules.promised.basic.injects_any_error_code()) {
        // #CP exists only where CET does; elsewhere its vector is one of those without error code.
        const bool wants = x86::has_error_code(vector) &&
                           (vector != static_cast<std::uint8_t>(x86::Vector::control_protection) ||
                            rules.promised.vm_entry.may_set(vmx::entry_control::load_cet_state));
        if (wants && !event.has_error_code()) return broken(EntryCheck::injection_error_code_wanted);
        if (!wants && event.has_error_code()) return broken(EntryCheck::injection_error_code_unwanted);
    }

    if ((event.value & vmx::InterruptionInformation::entry_reserved_bits) != 0) {
        return broken(EntryCheck::injection_reserved_bits);
    }
    if (event.has_error_code() && view.get(field::vm_entry_exception_error_code) > 0xffff) {
        return broken(EntryCheck::injection_error_code_bits);
    }
    if (event.is_software()) {
        const std::uint32_t length = view.get(field::vm_entry_instruction_length);
        if (length > 15 || (length == 0 && !rules.promised.misc.injects_zero_length())) {
            return broken(EntryCheck::injection_instruction_length);
        }
    }
    return {};
}

// VM-entry control fields (SDM 3C 27.2.1.3).
template <VmcsView View>
[[nodiscard]] constexpr EntryVerdict check_entry_controls(const View& view, const EntryRules& rules,
                                                          const EntryContext& context) {
    namespace field = vmx::field;
    using detail::broken;
    const std::uint32_t controls = view.get(field::vm_entry_controls);
    if (!rules.promised.vm_entry.permits(controls)) return broken(EntryCheck::entry_reserved_bits);
    if (EntryVerdict verdict = check_event_injection(view, rules); !verdict) return verdict;
    if (!detail::is_msr_area(rules, view.get(field::vm_entry_msr_load_address),
                             view.get(field::vm_entry_msr_load_count))) {
        return broken(EntryCheck::entry_msr_load_area);
    }
    constexpr std::uint32_t smm_only =
        vmx::entry_control::entry_to_smm | vmx::entry_control::deactivate_dual_monitor;
    if (!context.in_smm && (controls & smm_only) != 0) return broken(EntryCheck::entry_to_smm_outside_smm);
    if ((controls & smm_only) == smm_only)
        return broken(EntryCheck::entry_to_smm_excludes_dual_monitor_deactivation);
    return {};
}

// All of SDM 3C 27.2.1, in its order.
template <VmcsView View, typename Memory = NoMemory>
[[nodiscard]] constexpr EntryVerdict check_control_fields(const View& view, const EntryRules& rules,
                                                          const EntryContext& context = {},
                                                          const Memory& memory = {}) {
    if (EntryVerdict verdict = check_execution_controls(view, rules); !verdict) return verdict;
    if constexpr (ReadableMemory<Memory>) {
        if (EntryVerdict verdict = check_tpr_threshold(view, memory); !verdict) return verdict;
    }
    if (EntryVerdict verdict = check_exit_controls(view, rules); !verdict) return verdict;
    return check_entry_controls(view, rules, context);
}

}  // namespace flatback::nested
