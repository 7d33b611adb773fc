#include "machine/rules/capability.hpp"

#include "machine/rules/address.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "vmx/field_table.hpp"

namespace flatback::machine::rules {

namespace {

std::uint64_t original(AllowedSettings settings, std::uint32_t must_be_1) {
    settings.allowed0 |= must_be_1;
    settings.allowed1 |= must_be_1;
    return settings.msr();
}

}  // namespace

std::optional<std::uint64_t> Capabilities::read(std::uint32_t msr) const {
    const bool has_secondary = primary.may_be_1(vmx::primary::activate_secondary_controls);
    const bool has_ept = has_secondary && secondary.may_be_1(vmx::secondary::enable_ept);
    const bool has_vpid = has_secondary && secondary.may_be_1(vmx::secondary::enable_vpid);
    const bool has_functions = has_secondary && secondary.may_be_1(vmx::secondary::enable_vm_functions);
    const bool has_true = (basic & basic::true_controls) != 0;
    std::optional<std::uint64_t> value;
    switch (msr) {
        case 0x480:
            value = basic;
            break;
        case 0x481:
            value = original(pin_based, default1::pin);
            break;
        case 0x482:
            value = original(primary, default1::primary);
            break;
        case 0x483:
            value = original(vm_exit, default1::vm_exit);
            break;
        case 0x484:
            value = original(vm_entry, default1::vm_entry);
            break;
        case 0x485:
            value = misc;
            break;
        case 0x486:
            value = cr0.fixed0;
            break;
        case 0x487:
            value = cr0.fixed1;
            break;
        case 0x488:
            value = cr4.fixed0;
            break;
        case 0x489:
            value = cr4.fixed1;
            break;
        case 0x48A:
            value = vmcs_enum;
            break;
        case 0x48B:
            if (has_secondary) value = secondary.msr();
            break;
        case 0x48C:
            if (has_ept || has_vpid) value = ept_vpid;
            break;
        case 0x48D:
            if (has_true) value = pin_based.msr();
            break;
        case 0x48E:
            if (has_true) value = primary.msr();
            break;
        case 0x48F:
            if (has_true) value = vm_exit.msr();
            break;
        case 0x490:
            if (has_true) value = vm_entry.msr();
            break;
        case 0x491:
            if (has_functions) value = vm_functions;
            break;
        default:
            break;
    }
    return value;
}

bool Capabilities::is_eptp(std::uint64_t eptp, unsigned physical_address_width) const {
    const std::uint64_t memory_type = eptp & 7;
    const bool type_is_known = (memory_type == 0 && has_ept_vpid(ept_vpid::uncacheable)) ||
                               (memory_type == 6 && has_ept_vpid(ept_vpid::write_back));
    const bool walk_is_4 = (eptp >> 3 & 7) == 3 && has_ept_vpid(ept_vpid::walk_of_4);
    const bool flags_are_known = (eptp >> 6 & 1) == 0 || has_ept_vpid(ept_vpid::accessed_dirty);
    const bool stacks_are_known = (eptp >> 7 & 1) == 0 || has_ept_vpid(ept_vpid::shadow_stack);
    const bool reserved_are_clear = (eptp >> 8 & 0xF) == 0;
    return type_is_known && walk_is_4 && flags_are_known && stacks_are_known && reserved_are_clear &&
           within_width(eptp, physical_address_width);
}

bool Capabilities::has_field(std::uint64_t encoding) const {
    if (vmx::dense_index(encoding) < 0) return false;
    const bool has_secondary = primary.may_be_1(vmx::primary::activate_secondary_controls);
    const auto may = [&](std::uint32_t control) { return has_secondary && secondary.may_be_1(control); };
    const bool patched = vm_entry.may_be_1(vmx::entry_control::load_ia32_pat) ||
                         vm_exit.may_be_1(vmx::exit_control::save_ia32_pat);
    const bool efer = vm_entry.may_be_1(vmx::entry_control::load_ia32_efer) ||
                      vm_exit.may_be_1(vmx::exit_control::save_ia32_efer);
    namespace field = vmx::field;
    switch (encoding & ~std::uint64_t{1}) {
        case field::virtual_processor_identifier.encoding:
            return may(vmx::secondary::enable_vpid);
        case field::posted_interrupt_notification_vector.encoding:
        case field::posted_interrupt_descriptor_address.encoding:
            return pin_based.may_be_1(vmx::pin::process_posted_interrupts);
        case field::eptp_index.encoding:
        case field::virtualization_exception_information_address.encoding:
            return may(vmx::secondary::ept_violation_ve);
        case field::guest_interrupt_status.encoding:
        case field::eoi_exit_bitmap_0.encoding:
        case field::eoi_exit_bitmap_1.encoding:
        case field::eoi_exit_bitmap_2.encoding:
        case field::eoi_exit_bitmap_3.encoding:
            return may(vmx::secondary::virtual_interrupt_delivery);
        case field::pml_index.encoding:
        case field::pml_address.encoding:
            return may(vmx::secondary::enable_pml);
        case field::address_of_msr_bitmaps.encoding:
            return primary.may_be_1(vmx::primary::use_msr_bitmaps);
        case field::virtual_apic_address.encoding:
        case field::tpr_threshold.encoding:
            return primary.may_be_1(vmx::primary::use_tpr_shadow);
        case field::apic_access_address.encoding:
            return may(vmx::secondary::virtualize_apic_accesses);
        case field::vm_function_controls.encoding:
            return may(vmx::secondary::enable_vm_functions);
        case field::eptp_list_address.encoding:
            return may(vmx::secondary::enable_vm_functions) && (vm_functions & 1) != 0;
        case field::ept_pointer.encoding:
        case field::guest_physical_address.encoding:
        case field::guest_pdpte0.encoding:
        case field::guest_pdpte1.encoding:
        case field::guest_pdpte2.encoding:
        case field::guest_pdpte3.encoding:
            return may(vmx::secondary::enable_ept);
        case field::vmread_bitmap_address.encoding:
        case field::vmwrite_bitmap_address.encoding:
            return may(vmx::secondary::vmcs_shadowing);
        case field::xss_exiting_bitmap.encoding:
            return may(vmx::secondary::enable_xsaves_xrstors);
        case field::encls_exiting_bitmap.encoding:
            return may(vmx::secondary::enable_encls_exiting);
        case field::tsc_multiplier.encoding:
            return may(vmx::secondary::use_tsc_scaling);
        case field::ple_gap.encoding:
        case field::ple_window.encoding:
            return may(vmx::secondary::pause_loop_exiting);
        case field::secondary_processor_based_vm_execution_controls.encoding:
            return has_secondary;
        case field::guest_ia32_pat.encoding:
            return patched;
        case field::guest_ia32_efer.encoding:
            return efer;
        case field::guest_ia32_perf_global_ctrl.encoding:
            return vm_entry.may_be_1(vmx::entry_control::load_ia32_perf_global_ctrl);
        case field::guest_ia32_bndcfgs.encoding:
            return vm_entry.may_be_1(vmx::entry_control::load_ia32_bndcfgs) ||
                   vm_exit.may_be_1(vmx::exit_control::clear_ia32_bndcfgs);
        case field::host_ia32_pat.encoding:
            return vm_exit.may_be_1(vmx::exit_control::load_ia32_pat);
        case field::host_ia32_efer.encoding:
            return vm_exit.may_be_1(vmx::exit_control::load_ia32_efer);
        case field::host_ia32_perf_global_ctrl.encoding:
            return vm_exit.may_be_1(vmx::exit_control::load_ia32_perf_global_ctrl);
        case field::vmx_preemption_timer_value.encoding:
            return pin_based.may_be_1(vmx::pin::activate_vmx_preemption_timer);
        case field::cr3_target_value_0.encoding:
            return cr3_targets() > 0;
        case field::cr3_target_value_1.encoding:
            return cr3_targets() > 1;
        case field::cr3_target_value_2.encoding:
            return cr3_targets() > 2;
        case field::cr3_target_value_3.encoding:
            return cr3_targets() > 3;
        default:
            return true;
    }
}

}  // namespace flatback::machine::rules
