#include "machine/cpu/processor_model.hpp"

#include <algorithm>

#include "vmx/controls.hpp"
#include "vmx/field_table.hpp"
#include "x86/control_registers.hpp"
#include "x86/msr_numbers.hpp"

namespace flatback::machine {

namespace {

rules::AllowedSettings controls(std::uint32_t must_be_one, std::uint32_t may_be_one) {
    return {must_be_one, must_be_one | may_be_one};
}

}  // namespace

ProcessorModel full_processor_model() {
    ProcessorModel model;
    rules::Capabilities& caps = model.vmx;
    caps.basic =
        0x464C'4254 | rules::basic::region_of_4k | rules::basic::write_back | rules::basic::true_controls;
    caps.pin_based =
        controls(rules::default1::pin, vmx::pin::external_interrupt_exiting | vmx::pin::nmi_exiting |
                                           vmx::pin::virtual_nmis | vmx::pin::activate_vmx_preemption_timer);
    // Of the default1 class the two CR3 controls may be 0 (SDM 3D A.3.2).
    constexpr std::uint32_t cr3_controls = vmx::primary::cr3_load_exiting | vmx::primary::cr3_store_exiting;
    caps.primary =
        controls(rules::default1::primary & ~cr3_controls,
                 cr3_controls | vmx::primary::interrupt_window_exiting | vmx::primary::use_tsc_offsetting |
                     vmx::primary::hlt_exiting | vmx::primary::invlpg_exiting | vmx::primary::rdtsc_exiting |
                     vmx::primary::nmi_window_exiting | vmx::primary::unconditional_io_exiting |
                     vmx::primary::use_io_bitmaps | vmx::primary::use_msr_bitmaps |
                     vmx::primary::pause_exiting | vmx::primary::activate_secondary_controls);
    caps.secondary = controls(0, vmx::secondary::enable_ept | vmx::secondary::enable_vpid |
                                     vmx::secondary::unrestricted_guest | vmx::secondary::enable_invpcid |
                                     vmx::secondary::enable_rdtscp | vmx::secondary::enable_vm_functions |
                                     vmx::secondary::vmcs_shadowing | vmx::secondary::wbinvd_exiting |
                                     vmx::secondary::enable_pml | vmx::secondary::use_tsc_scaling |
                                     vmx::secondary::descriptor_table_exiting);
    constexpr std::uint32_t exit_free = vmx::exit_control::save_debug_controls;
    caps.vm_exit =
        controls(rules::default1::vm_exit & ~exit_free,
                 exit_free | vmx::exit_control::host_address_space_size |
                     vmx::exit_control::acknowledge_interrupt_on_exit | vmx::exit_control::save_ia32_pat |
                     vmx::exit_control::load_ia32_pat | vmx::exit_control::save_ia32_efer |
                     vmx::exit_control::load_ia32_efer | vmx::exit_control::save_vmx_preemption_timer_value);
    constexpr std::uint32_t entry_free = vmx::entry_control::load_debug_controls;
    caps.vm_entry = controls(rules::default1::vm_entry & ~entry_free,
                             entry_free | vmx::entry_control::ia32e_mode_guest |
                                 vmx::entry_control::load_ia32_pat | vmx::entry_control::load_ia32_efer);
    // The VMX-preemption timer counts each fourth tick.
    caps.misc = 2 | rules::misc::store_lma | rules::misc::activity_hlt | rules::misc::activity_wait_for_sipi |
                std::uint64_t{4} << rules::misc::cr3_targets_at | rules::misc::vmwrite_any_field |
                rules::misc::inject_length_0;
    caps.cr0 = {x86::cr0::protection_enable | x86::cr0::numeric_error | x86::cr0::paging, 0xFFFF'FFFF};
    caps.cr4 = {
        x86::cr4::vmx_enable,
        x86::cr4::virtual_8086_extensions | x86::cr4::protected_virtual_interrupts |
            x86::cr4::time_stamp_disable | x86::cr4::debugging_extensions | x86::cr4::page_size_extensions |
            x86::cr4::physical_address_extension | x86::cr4::machine_check_enable |
            x86::cr4::page_global_enable | x86::cr4::performance_counter_enable | x86::cr4::fxsave_support |
            x86::cr4::simd_exception_support | x86::cr4::vmx_enable | x86::cr4::fsgsbase_enable |
            x86::cr4::pcid_enable | x86::cr4::xsave_enable | x86::cr4::smep_enable | x86::cr4::smap_enable};
    namespace ept = rules::ept_vpid;
    caps.ept_vpid = ept::execute_only | ept::walk_of_4 | ept::uncacheable | ept::write_back |
                    ept::pages_of_2m | ept::pages_of_1g | ept::invept | ept::accessed_dirty |
                    ept::invept_single | ept::invept_all | ept::invvpid | ept::invvpid_address |
                    ept::invvpid_single | ept::invvpid_all | ept::invvpid_but_globals;
    caps.vm_functions = vmx::vm_function::eptp_switching;
    for (const vmx::NamedField& field : vmx::all_fields) {
        if (caps.has_field(field.encoding))
            caps.vmcs_enum = std::max(caps.vmcs_enum, std::uint64_t{vmx::index(field.encoding)} << 1);
    }
    return model;
}

}  // namespace flatback::machine
