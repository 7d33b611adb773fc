// Each rule of SDM 3C 27.2.1, broken alone.
#include "tests/nested_entry_checks/broken_rules.hpp"

namespace flatback::nested::testing_entry {
namespace {

using Check = EntryCheck;
using vmx::InterruptionInformation;
using vmx::InterruptionType;

// A feature that needs another is turned off together with what would complain first.
void without_secondary(Attempt& a, std::uint32_t bits) {
    a.vmcs.lower(field::secondary_processor_based_vm_execution_controls, bits);
}
void with_secondary(Attempt& a, std::uint32_t bits) {
    a.vmcs.raise(field::secondary_processor_based_vm_execution_controls, bits);
}
void inject(Attempt& a, std::uint32_t information) {
    a.vmcs.set(field::vm_entry_interruption_information, information);
}
Attempt without_posted_interrupts() {
    Attempt a = all_features();
    a.vmcs.lower(field::pin_based_vm_execution_controls, pin::process_posted_interrupts);
    return a;
}
Attempt tpr_shadow_alone() {
    Attempt a = long_mode();
    a.vmcs.raise(field::primary_processor_based_vm_execution_controls, primary::use_tpr_shadow);
    a.vmcs.set(field::virtual_apic_address, 0x1'3000);
    a.vmcs.set(field::tpr_threshold, 5);
    a.memory.write<std::uint8_t>(0x1'3080, 0x5f);
    return a;
}
Attempt apic_without_tpr_rules() {
    Attempt a = long_mode();
    a.vmcs.raise(field::primary_processor_based_vm_execution_controls,
                 primary::use_tpr_shadow | primary::activate_secondary_controls);
    return a;
}
template <std::uint32_t Bit>
Attempt only_ept_and() {
    Attempt a = long_mode();
    use_ept(a.vmcs);
    a.vmcs.raise(field::secondary_processor_based_vm_execution_controls, Bit);
    return a;
}
void no_ept(Attempt& a) {
    without_secondary(a, secondary::enable_ept);
}
Attempt in_smm() {
    Attempt a = long_mode();
    a.context.in_smm = true;
    a.vmcs.raise(field::vm_entry_controls, entry_control::entry_to_smm);
    a.vmcs.set(field::guest_interruptibility_state, vmx::interruptibility::blocking_by_smi);
    return a;
}
Attempt injecting_page_fault() {
    Attempt a = long_mode();
    a.vmcs.set(field::vm_entry_interruption_information,
               InterruptionInformation::exception(x86::Vector::page_fault).value);
    a.vmcs.set(field::vm_entry_exception_error_code, 0xffff);
    return a;
}
Attempt injecting_software_interrupt() {
    Attempt a = long_mode();
    a.vmcs.set(field::vm_entry_interruption_information,
               InterruptionInformation::make(InterruptionType::software_interrupt, 0x80).value);
    a.vmcs.set(field::vm_entry_instruction_length, 2);
    return a;
}

const std::vector<BrokenRule> rules = {
    {Check::pin_based_reserved_bits, long_mode,
     [](Attempt& a) { a.vmcs.raise(field::pin_based_vm_execution_controls, 1u << 8); }},
    {Check::pin_based_reserved_bits, long_mode,
     [](Attempt& a) { a.vmcs.lower(field::pin_based_vm_execution_controls, 1u << 1); }},
    {Check::primary_processor_based_reserved_bits, long_mode,
     [](Attempt& a) { a.vmcs.raise(field::primary_processor_based_vm_execution_controls, 1u << 17); }},
    {Check::primary_processor_based_reserved_bits, long_mode,
     [](Attempt& a) { a.vmcs.lower(field::primary_processor_based_vm_execution_controls, 1u << 8); }},
    {Check::secondary_processor_based_reserved_bits, all_features,
     [](Attempt& a) { with_secondary(a, 1u << 30); }},
    {Check::secondary_processor_based_reserved_bits, all_features,
     [](Attempt& a) { a.promised.secondary_processor_based.allowed1 &= ~secondary::vmcs_shadowing; }},
    {Check::cr3_target_count_within_limit, long_mode,
     [](Attempt& a) { a.vmcs.set(field::cr3_target_count, 5); }},
    {Check::io_bitmap_a_address, all_features,
     [](Attempt& a) { a.vmcs.set(field::address_of_io_bitmap_a, 0x1'0800); }},
    {Check::io_bitmap_a_address, all_features,
     [](Attempt& a) { a.vmcs.set(field::address_of_io_bitmap_a, beyond_width); }},
    {Check::io_bitmap_b_address, all_features,
     [](Attempt& a) { a.vmcs.set(field::address_of_io_bitmap_b, 1); }},
    {Check::io_bitmap_b_address, all_features,
     [](Attempt& a) { a.vmcs.set(field::address_of_io_bitmap_b, 1ULL << 63); }},
    {Check::msr_bitmap_address, all_features,
     [](Attempt& a) { a.vmcs.set(field::address_of_msr_bitmaps, 0x10); }},
    {Check::msr_bitmap_address, all_features,
     [](Attempt& a) { a.vmcs.set(field::address_of_msr_bitmaps, beyond_width); }},
    {Check::virtual_apic_address, tpr_shadow_alone,
     [](Attempt& a) { a.vmcs.set(field::virtual_apic_address, 0x1'3008); }},
    {Check::virtual_apic_address, tpr_shadow_alone,
     [](Attempt& a) { a.vmcs.set(field::virtual_apic_address, beyond_width); }},
    {Check::tpr_threshold_reserved_bits, tpr_shadow_alone,
     [](Attempt& a) { a.vmcs.raise(field::tpr_threshold, 0x10); }},
    {Check::tpr_threshold_reserved_bits, tpr_shadow_alone,
     [](Attempt& a) { a.vmcs.raise(field::tpr_threshold, 1u << 31); }},
    {Check::tpr_threshold_not_above_virtual_tpr, tpr_shadow_alone,
     [](Attempt& a) { a.vmcs.set(field::tpr_threshold, 6); }},
    {Check::tpr_threshold_not_above_virtual_tpr, tpr_shadow_alone,
     [](Attempt& a) { a.memory.write<std::uint8_t>(0x1'3080, 0x4f); }},
    {Check::virtual_nmis_need_nmi_exiting, all_features,
     [](Attempt& a) { a.vmcs.lower(field::pin_based_vm_execution_controls, pin::nmi_exiting); }},
    {Check::nmi_window_exiting_needs_virtual_nmis, all_features,
     [](Attempt& a) { a.vmcs.lower(field::pin_based_vm_execution_controls, pin::virtual_nmis); }},
    {Check::apic_access_address, all_features,
     [](Attempt& a) { a.vmcs.set(field::apic_access_address, 0x800); }},
    {Check::apic_access_address, all_features,
     [](Attempt& a) { a.vmcs.set(field::apic_access_address, beyond_width); }},
    {Check::virtualize_x2apic_mode_needs_tpr_shadow,
     [] {
         Attempt a = apic_without_tpr_rules();
         with_secondary(a, secondary::virtualize_x2apic_mode);
         return a;
     },
     [](Attempt& a) {
         a.vmcs.lower(field::primary_processor_based_vm_execution_controls, primary::use_tpr_shadow);
     }},
    {Check::apic_register_virtualization_needs_tpr_shadow,
     [] {
         Attempt a = apic_without_tpr_rules();
         with_secondary(a, secondary::apic_register_virtualization);
         return a;
     },
     [](Attempt& a) {
         a.vmcs.lower(field::primary_processor_based_vm_execution_controls, primary::use_tpr_shadow);
     }},
    {Check::virtual_interrupt_delivery_needs_tpr_shadow,
     [] {
         Attempt a = apic_without_tpr_rules();
         with_secondary(a, secondary::virtual_interrupt_delivery);
         a.vmcs.raise(field::pin_based_vm_execution_controls, pin::external_interrupt_exiting);
         return a;
     },
     [](Attempt& a) {
         a.vmcs.lower(field::primary_processor_based_vm_execution_controls, primary::use_tpr_shadow);
     }},
    {Check::virtualize_x2apic_mode_excludes_apic_accesses, all_features,
     [](Attempt& a) { with_secondary(a, secondary::virtualize_x2apic_mode); }},
    {Check::virtual_interrupt_delivery_needs_external_interrupt_exiting, without_posted_interrupts,
     [](Attempt& a) {
         a.vmcs.lower(field::pin_based_vm_execution_controls, pin::external_interrupt_exiting);
     }},
    {Check::posted_interrupts_need_virtual_interrupt_delivery, all_features,
     [](Attempt& a) { without_secondary(a, secondary::virtual_interrupt_delivery); }},
    {Check::posted_interrupts_need_acknowledge_on_exit, all_features,
     [](Attempt& a) { a.vmcs.lower(field::vm_exit_controls, exit_control::acknowledge_interrupt_on_exit); }},
    {Check::posted_interrupt_vector, all_features,
     [](Attempt& a) { a.vmcs.set(field::posted_interrupt_notification_vector, 0x100); }},
    {Check::posted_interrupt_descriptor_address, all_features,
     [](Attempt& a) { a.vmcs.raise(field::posted_interrupt_descriptor_address, 0x20); }},
    {Check::posted_interrupt_descriptor_address, all_features,
     [](Attempt& a) { a.vmcs.set(field::posted_interrupt_descriptor_address, beyond_width); }},
    {Check::vpid_not_zero, all_features,
     [](Attempt& a) { a.vmcs.set(field::virtual_processor_identifier, 0); }},
    {Check::ept_pointer, all_features, [](Attempt& a) { a.vmcs.set(field::ept_pointer, 0x1'605a); }},
    {Check::ept_pointer, all_features, [](Attempt& a) { a.vmcs.set(field::ept_pointer, 0x1'6056); }},
    {Check::ept_pointer, all_features, [](Attempt& a) { a.vmcs.raise(field::ept_pointer, 0x80); }},
    {Check::ept_pointer, all_features, [](Attempt& a) { a.vmcs.raise(field::ept_pointer, beyond_width); }},
    {Check::ept_pointer, all_features,
     [](Attempt& a) { a.promised.ept_vpid.value &= ~vmx::EptVpidCapability::accessed_dirty; }},
    {Check::pml_needs_ept, only_ept_and<secondary::enable_pml>, no_ept},
    {Check::pml_address, all_features, [](Attempt& a) { a.vmcs.set(field::pml_address, 0x1'7001); }},
    {Check::pml_address, all_features, [](Attempt& a) { a.vmcs.set(field::pml_address, beyond_width); }},
    {Check::unrestricted_guest_needs_ept, only_ept_and<secondary::unrestricted_guest>, no_ept},
    {Check::mode_based_execute_control_needs_ept, only_ept_and<secondary::mode_based_execute_control>,
     no_ept},
    {Check::vm_function_reserved_bits, all_features,
     [](Attempt& a) { a.vmcs.raise(field::vm_function_controls, 2); }},
    {Check::vm_function_reserved_bits, all_features, [](Attempt& a) { a.promised.vm_functions = 0; }},
    {Check::eptp_switching_needs_ept,
     [] {
         Attempt a = only_ept_and<secondary::enable_vm_functions>();
         a.vmcs.set(field::vm_function_controls, 1);
         return a;
     },
     no_ept},
    {Check::eptp_list_address, all_features, [](Attempt& a) { a.vmcs.set(field::eptp_list_address, 8); }},
    {Check::eptp_list_address, all_features,
     [](Attempt& a) { a.vmcs.set(field::eptp_list_address, beyond_width); }},
    {Check::vmread_bitmap_address, all_features,
     [](Attempt& a) { a.vmcs.set(field::vmread_bitmap_address, 4); }},
    {Check::vmread_bitmap_address, all_features,
     [](Attempt& a) { a.vmcs.set(field::vmread_bitmap_address, beyond_width); }},
    {Check::vmwrite_bitmap_address, all_features,
     [](Attempt& a) { a.vmcs.set(field::vmwrite_bitmap_address, 4); }},
    {Check::vmwrite_bitmap_address, all_features,
     [](Attempt& a) { a.vmcs.set(field::vmwrite_bitmap_address, beyond_width); }},
    {Check::virtualization_exception_address, all_features,
     [](Attempt& a) { a.vmcs.set(field::virtualization_exception_information_address, 0x40); }},
    {Check::virtualization_exception_address, all_features,
     [](Attempt& a) { a.vmcs.set(field::virtualization_exception_information_address, beyond_width); }},
    {Check::tsc_multiplier_not_zero, all_features, [](Attempt& a) { a.vmcs.set(field::tsc_multiplier, 0); }},

    {Check::exit_reserved_bits, long_mode,
     [](Attempt& a) { a.vmcs.raise(field::vm_exit_controls, 1u << 31); }},
    {Check::exit_reserved_bits, long_mode,
     [](Attempt& a) { a.vmcs.lower(field::vm_exit_controls, 1u << 0); }},
    {Check::save_preemption_timer_needs_timer, all_features,
     [](Attempt& a) {
         a.vmcs.lower(field::pin_based_vm_execution_controls, pin::activate_vmx_preemption_timer);
     }},
    {Check::exit_msr_store_area, all_features,
     [](Attempt& a) { a.vmcs.raise(field::vm_exit_msr_store_address, 8); }},
    {Check::exit_msr_store_area, all_features,
     [](Attempt& a) { a.vmcs.set(field::vm_exit_msr_store_address, beyond_width - 0x20); }},
    {Check::exit_msr_load_area, all_features,
     [](Attempt& a) { a.vmcs.raise(field::vm_exit_msr_load_address, 1); }},
    {Check::exit_msr_load_area, all_features,
     [](Attempt& a) { a.vmcs.set(field::vm_exit_msr_load_address, beyond_width); }},
    {Check::exit_msr_load_area, all_features,
     [](Attempt& a) {
         a.vmcs.set(field::vm_exit_msr_load_address, 0xf8'0000'0000);
         a.vmcs.set(field::vm_exit_msr_load_count, 0xffff'ffff);
     }},

    {Check::entry_reserved_bits, long_mode,
     [](Attempt& a) { a.vmcs.raise(field::vm_entry_controls, 1u << 19); }},
    {Check::entry_reserved_bits, long_mode,
     [](Attempt& a) { a.vmcs.lower(field::vm_entry_controls, 1u << 12); }},
    {Check::injection_type, long_mode, [](Attempt& a) { inject(a, 0x8000'0120); }},
    {Check::injection_type,
     [] {
         Attempt a = long_mode();
         inject(a, 0x8000'0700);
         return a;
     },
     [](Attempt& a) { a.promised.primary_processor_based.allowed1 &= ~primary::monitor_trap_flag; }},
    {Check::injection_vector, long_mode, [](Attempt& a) { inject(a, 0x8000'0203); }},
    {Check::injection_vector, long_mode, [](Attempt& a) { inject(a, 0x8000'0320); }},
    {Check::injection_vector, long_mode, [](Attempt& a) { inject(a, 0x8000'0701); }},
    {Check::injection_error_code_wanted, injecting_page_fault, [](Attempt& a) { inject(a, 0x8000'030e); }},
    {Check::injection_error_code_wanted, injecting_page_fault, [](Attempt& a) { inject(a, 0x8000'0308); }},
    {Check::injection_error_code_wanted, injecting_page_fault, [](Attempt& a) { inject(a, 0x8000'0311); }},
    {Check::injection_error_code_unwanted, injecting_page_fault, [](Attempt& a) { inject(a, 0x8000'0b06); }},
    {Check::injection_error_code_unwanted, injecting_page_fault, [](Attempt& a) { inject(a, 0x8000'0b15); }},
    {Check::injection_error_code_unwanted, injecting_page_fault, [](Attempt& a) { inject(a, 0x8000'0820); }},
    {Check::injection_error_code_unwanted,
     [] {
         Attempt a = real_mode();
         inject(a, 0x8000'030d);
         return a;
     },
     [](Attempt& a) { inject(a, 0x8000'0b0d); }},
    {Check::injection_reserved_bits, injecting_page_fault, [](Attempt& a) { inject(a, 0x8000'1b0e); }},
    {Check::injection_reserved_bits, injecting_page_fault, [](Attempt& a) { inject(a, 0xc000'0b0e); }},
    {Check::injection_error_code_bits, injecting_page_fault,
     [](Attempt& a) { a.vmcs.set(field::vm_entry_exception_error_code, 0x1'0000); }},
    {Check::injection_instruction_length, injecting_software_interrupt,
     [](Attempt& a) { a.vmcs.set(field::vm_entry_instruction_length, 16); }},
    {Check::injection_instruction_length, injecting_software_interrupt,
     [](Attempt& a) { a.vmcs.set(field::vm_entry_instruction_length, 0); }},
    {Check::entry_msr_load_area, all_features,
     [](Attempt& a) { a.vmcs.raise(field::vm_entry_msr_load_address, 2); }},
    {Check::entry_msr_load_area, all_features,
     [](Attempt& a) {
         a.vmcs.set(field::vm_entry_msr_load_address, beyond_width - 0x10);
         a.vmcs.set(field::vm_entry_msr_load_count, 2);
     }},
    {Check::entry_to_smm_outside_smm, in_smm, [](Attempt& a) { a.context.in_smm = false; }},
    {Check::entry_to_smm_excludes_dual_monitor_deactivation, in_smm,
     [](Attempt& a) { a.vmcs.raise(field::vm_entry_controls, entry_control::deactivate_dual_monitor); }},
};

class BrokenControlRule : public BrokenRuleTest {};
TEST_P(BrokenControlRule, IsNamed) {
    EXPECT_TRUE(is_control_check(GetParam().expected));
    expect_named();
}
INSTANTIATE_TEST_SUITE_P(Each, BrokenControlRule, ::testing::ValuesIn(rules), case_name);

}  // namespace

const std::vector<BrokenRule>& broken_control_rules() {
    return rules;
}

}  // namespace flatback::nested::testing_entry
