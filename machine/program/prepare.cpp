#include "machine/program/prepare.hpp"

#include "machine/cpu/registers.hpp"
#include "machine/program/layout.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"

namespace flatback::machine {

std::vector<std::pair<std::uint64_t, std::uint64_t>> guest_fields(const ProcessorModel& model,
                                                                  const GuestSettings& settings) {
    namespace field = vmx::field;
    const rules::Capabilities& caps = model.vmx;
    std::uint32_t secondary = 0;
    if (settings.vpid != 0) secondary |= vmx::secondary::enable_vpid;
    if (settings.ept != 0) secondary |= vmx::secondary::enable_ept;
    if (caps.secondary.may_be_1(vmx::secondary::enable_invpcid)) {
        secondary |= vmx::secondary::enable_invpcid;
    }
    constexpr std::uint64_t cr0 = x86::cr0::protection_enable | x86::cr0::extension_type |
                                  x86::cr0::numeric_error | x86::cr0::write_protect | x86::cr0::paging;
    constexpr std::uint64_t cr4 =
        x86::cr4::physical_address_extension | x86::cr4::page_global_enable | x86::cr4::vmx_enable;
    constexpr std::uint64_t efer = x86::efer::syscall_enable | x86::efer::long_mode_enable |
                                   x86::efer::long_mode_active | x86::efer::execute_disable_enable;
    const std::uint32_t primary =
        caps.primary.nearest(vmx::primary::hlt_exiting | vmx::primary::activate_secondary_controls);

    std::vector<std::pair<std::uint64_t, std::uint64_t>> fields;
    fields.reserve(96);
    const auto set = [&fields](auto named, std::uint64_t value) {
        fields.emplace_back(named.encoding, value);
    };
    set(field::pin_based_vm_execution_controls, caps.pin_based.nearest(0));
    set(field::primary_processor_based_vm_execution_controls, primary);
    set(field::secondary_processor_based_vm_execution_controls, caps.secondary.nearest(secondary));
    set(field::vm_exit_controls,
        caps.vm_exit.nearest(vmx::exit_control::host_address_space_size | vmx::exit_control::save_ia32_efer |
                             vmx::exit_control::load_ia32_efer));
    set(field::vm_entry_controls,
        caps.vm_entry.nearest(vmx::entry_control::ia32e_mode_guest | vmx::entry_control::load_ia32_efer));
    set(field::virtual_processor_identifier, settings.vpid);
    if (settings.ept != 0) set(field::ept_pointer, layout::eptp(settings.ept - 1));
    set(field::exception_bitmap, 0);
    set(field::page_fault_error_code_mask, 0);
    set(field::page_fault_error_code_match, 0);
    set(field::cr3_target_count, 0);
    set(field::vm_exit_msr_store_count, 0);
    set(field::vm_exit_msr_load_count, 0);
    set(field::vm_entry_msr_load_count, 0);
    set(field::vm_entry_interruption_information, 0);
    set(field::cr0_guest_host_mask, 0);
    set(field::cr4_guest_host_mask, 0);
    set(field::cr0_read_shadow, cr0);
    set(field::cr4_read_shadow, cr4);
    set(field::vmcs_link_pointer, ~std::uint64_t{0});

    set(field::guest_cr0, cr0);
    set(field::guest_cr3, layout::page_root(settings.tables));
    set(field::guest_cr4, cr4);
    set(field::guest_ia32_efer, efer);
    set(field::guest_dr7, x86::dr7::reset_value);
    set(field::guest_ia32_debugctl, 0);
    set(field::guest_rsp, 0x8000);
    set(field::guest_rip, 0x1000);
    set(field::guest_rflags, x86::rflags::fixed_one);
    set(field::guest_ia32_sysenter_cs, 0);
    set(field::guest_ia32_sysenter_esp, 0);
    set(field::guest_ia32_sysenter_eip, 0);
    set(field::guest_interruptibility_state, 0);
    set(field::guest_activity_state, 0);
    set(field::guest_pending_debug_exceptions, 0);
    const auto segment = [&fields](SegmentName name, std::uint64_t selector, std::uint64_t limit,
                                   std::uint64_t rights) {
        const auto index = static_cast<std::uint32_t>(name);
        fields.emplace_back(field::guest_es_selector.encoding + 2 * index, selector);
        fields.emplace_back(field::guest_es_base.encoding + 2 * index, 0);
        fields.emplace_back(field::guest_es_limit.encoding + 2 * index, limit);
        fields.emplace_back(field::guest_es_access_rights.encoding + 2 * index, rights);
    };
    segment(SegmentName::cs, 0x08, 0xFFFF'FFFF, flat_segment::code_64);
    for (const SegmentName name :
         {SegmentName::ss, SegmentName::ds, SegmentName::es, SegmentName::fs, SegmentName::gs}) {
        segment(name, 0x10, 0xFFFF'FFFF, flat_segment::data);
    }
    segment(SegmentName::ldtr, 0, 0, x86::AccessRights::unusable_bit);
    segment(SegmentName::tr, 0x18, 0x67, flat_segment::task);
    set(field::guest_gdtr_base, 0);
    set(field::guest_gdtr_limit, 0xFFFF);
    set(field::guest_idtr_base, 0);
    set(field::guest_idtr_limit, 0xFFFF);

    set(field::host_cr0, cr0);
    set(field::host_cr3, layout::page_root(0));
    set(field::host_cr4, cr4);
    set(field::host_ia32_efer, efer);
    set(field::host_cs_selector, 0x08);
    set(field::host_ss_selector, 0x10);
    set(field::host_ds_selector, 0x10);
    set(field::host_es_selector, 0x10);
    set(field::host_fs_selector, 0);
    set(field::host_gs_selector, 0);
    set(field::host_tr_selector, 0x18);
    set(field::host_fs_base, 0);
    set(field::host_gs_base, 0);
    set(field::host_tr_base, 0);
    set(field::host_gdtr_base, 0);
    set(field::host_idtr_base, 0);
    set(field::host_ia32_sysenter_cs, 0);
    set(field::host_ia32_sysenter_esp, 0);
    set(field::host_ia32_sysenter_eip, 0);
    set(field::host_rsp, 0x9000);
    set(field::host_rip, 0x10'0000);
    return fields;
}

}  // namespace flatback::machine
