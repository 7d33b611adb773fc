#include "machine/cpu/processor_model.hpp"

#include "vmx/controls.hpp"
#include "vmx/field_table.hpp"
#include "x86/control_registers.hpp"
#include "x86/msr.hpp"

namespace flatback::machine {

namespace {

vmx::ControlCapability controls(std::uint32_t must_be_one, std::uint32_t may_be_one) {
    return {must_be_one, must_be_one | may_be_one};
}

}  // namespace

ProcessorModel full_processor_model() {
    ProcessorModel model;
    vmx::Capabilities& caps = model.vmx;
    using Basic = vmx::BasicCapability;
    caps.basic.value = 0x464C'4254 | std::uint64_t{4096} << Basic::region_size_shift |
                       std::uint64_t{6} << Basic::memory_type_shift | Basic::true_controls;
    caps.pin_based = controls(vmx::pin::default1, vmx::pin::external_interrupt_exiting |
                                                      vmx::pin::nmi_exiting | vmx::pin::virtual_nmis);
    // Of the default1 class the two CR3 controls may be 0 (SDM 3D A.3.2).
    constexpr std::uint32_t cr3_controls = vmx::primary::cr3_load_exiting | vmx::primary::cr3_store_exiting;
    caps.primary_processor_based =
        controls(vmx::primary::default1 & ~cr3_controls,
                 cr3_controls | vmx::primary::interrupt_window_exiting | vmx::primary::use_tsc_offsetting |
                     vmx::primary::hlt_exiting | vmx::primary::invlpg_exiting | vmx::primary::rdtsc_exiting |
                     vmx::primary::nmi_window_exiting | vmx::primary::unconditional_io_exiting |
                     vmx::primary::use_io_bitmaps | vmx::primary::use_msr_bitmaps |
                     vmx::primary::pause_exiting | vmx::primary::activate_secondary_controls);
    caps.secondary_processor_based = controls(
        0, vmx::secondary::enable_ept | vmx::secondary::enable_vpid | vmx::secondary::unrestricted_guest |
               vmx::secondary::enable_invpcid | vmx::secondary::enable_rdtscp |
               vmx::secondary::enable_vm_functions | vmx::secondary::vmcs_shadowing);
    constexpr std::uint32_t exit_free = vmx::exit_control::save_debug_controls;
    caps.vm_exit = controls(vmx::exit_control::default1 & ~exit_free,
                            exit_free | vmx::exit_control::host_address_space_size |
                                vmx::exit_control::acknowledge_interrupt_on_exit |
                                vmx::exit_control::save_ia32_pat | vmx::exit_control::load_ia32_pat |
                                vmx::exit_control::save_ia32_efer | vmx::exit_control::load_ia32_efer);
    constexpr std::uint32_t entry_free = vmx::entry_control::load_debug_controls;
    caps.vm_entry = controls(vmx::entry_control::default1 & ~entry_free,
                             entry_free | vmx::entry_control::ia32e_mode_guest |
                                 vmx::entry_control::load_ia32_pat | vmx::entry_control::load_ia32_efer);
    using Misc = vmx::MiscCapability;
    caps.misc.value = Misc::store_efer_lma | Misc::activity_hlt |
                      std::uint64_t{4} << Misc::cr3_target_count_shift | Misc::vmwrite_any_field |
                      Misc::zero_length_injection;
    caps.cr0 = {x86::cr0::protection_enable | x86::cr0::numeric_error | x86::cr0::paging, 0xFFFF'FFFF};
    caps.cr4 = {
        x86::cr4::vmx_enable,
        x86::cr4::virtual_8086_extensions | x86::cr4::protected_virtual_interrupts |
            x86::cr4::time_stamp_disable | x86::cr4::debugging_extensions | x86::cr4::page_size_extensions |
            x86::cr4::physical_address_extension | x86::cr4::machine_check_enable |
            x86::cr4::page_global_enable | x86::cr4::performance_counter_enable | x86::cr4::fxsave_support |
            x86::cr4::simd_exception_support | x86::cr4::vmx_enable | x86::cr4::fsgsbase_enable |
            x86::cr4::pcid_enable | x86::cr4::xsave_enable | x86::cr4::smep_enable | x86::cr4::smap_enable};
    caps.vmcs_enum = std::uint64_t{vmx::highest_field_index} << 1;
    using Ept = vmx::EptVpidCapability;
    caps.ept_vpid.value = Ept::execute_only | Ept::walk_length_4 | Ept::uncacheable | Ept::write_back |
                          Ept::page_2m | Ept::page_1g | Ept::invept | Ept::accessed_dirty |
                          Ept::invept_single_context | Ept::invept_all_contexts | Ept::invvpid |
                          Ept::invvpid_individual_address | Ept::invvpid_single_context |
                          Ept::invvpid_all_contexts | Ept::invvpid_single_context_retaining_globals;
    caps.vm_functions = vmx::vm_function::eptp_switching;
    return model;
}

}  // namespace flatback::machine
