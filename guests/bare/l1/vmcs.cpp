#include "guests/bare/l1/vmcs.hpp"

#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/enter_l2.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"

extern "C" std::uint64_t boot_gdt[];

namespace flatback::guests {
namespace {

struct [[gnu::packed]] TablePointer {
    std::uint16_t limit;
    std::uint64_t base;
};

constexpr std::uint32_t msr_gs_base = 0xC0000101;
constexpr std::uint64_t code64_rights = 0xA09B;
constexpr std::uint64_t data_rights = 0xC093;
constexpr std::uint64_t busy_tss_rights = 0x8B;
constexpr std::uint64_t unusable = 0x10000;

void fill_controls(const VmcsPlan& plan) {
    const Capabilities& can = capabilities;
    write(field::pin_based_vm_execution_controls, can.pin.adjust(plan.pin));
    write(field::primary_processor_based_vm_execution_controls, can.primary.adjust(plan.primary));
    write(field::secondary_processor_based_vm_execution_controls, can.secondary.adjust(plan.secondary));
    write(field::vm_exit_controls, can.exit.adjust(plan.exit));
    write(field::vm_entry_controls, can.entry.adjust(plan.entry));
    write(field::exception_bitmap, 0);
    write(field::page_fault_error_code_mask, 0);
    write(field::page_fault_error_code_match, 0);
    write(field::cr3_target_count, 0);
    write(field::vm_exit_msr_store_count, 0);
    write(field::vm_exit_msr_load_count, 0);
    write(field::vm_entry_msr_load_count, 0);
    write(field::vm_entry_interruption_information, 0);
    write(field::vm_entry_exception_error_code, 0);
    write(field::vm_entry_instruction_length, 0);
    write(field::address_of_io_bitmap_a, 0);
    write(field::address_of_io_bitmap_b, 0);
    write(field::address_of_msr_bitmaps, plan.msr_bitmaps);
    write(field::vm_exit_msr_store_address, 0);
    write(field::vm_exit_msr_load_address, 0);
    write(field::vm_entry_msr_load_address, 0);
    write(field::tsc_offset, 0);
    write(field::virtual_apic_address, 0);
    write(field::tpr_threshold, 0);
    write(field::cr0_guest_host_mask, 0);
    write(field::cr4_guest_host_mask, 0);
    write(field::cr0_read_shadow, 0);
    write(field::cr4_read_shadow, 0);
    write(field::cr3_target_value_0, 0);
    write(field::cr3_target_value_1, 0);
    write(field::cr3_target_value_2, 0);
    write(field::cr3_target_value_3, 0);
    // These exist only where the processor has the control that uses them.
    if (can.secondary.may_set(secondary::enable_ept)) write(field::ept_pointer, plan.ept_pointer);
    if (can.secondary.may_set(secondary::enable_vpid)) write(field::virtual_processor_identifier, plan.vpid);
}

void fill_host_state() {
    TablePointer gdt{};
    TablePointer idt{};
    asm volatile("sgdt %0" : "=m"(gdt));
    asm volatile("sidt %0" : "=m"(idt));
    const std::uint64_t tss =
        (boot_gdt[3] >> 16 & 0xFFFFFF) | (boot_gdt[3] >> 56 << 24) | (boot_gdt[4] << 32);
    write(field::host_es_selector, 0x10);
    write(field::host_cs_selector, 0x08);
    write(field::host_ss_selector, 0x10);
    write(field::host_ds_selector, 0x10);
    write(field::host_fs_selector, 0);
    write(field::host_gs_selector, 0);
    write(field::host_tr_selector, 0x18);
    write(field::host_ia32_pat, read_msr(msr_pat));
    write(field::host_ia32_efer, read_msr(msr_efer));
    write(field::host_ia32_sysenter_cs, 0);
    write(field::host_cr0, read_cr0());
    write(field::host_cr3, read_cr3());
    write(field::host_cr4, read_cr4());
    write(field::host_fs_base, 0);
    write_own_host_state();
    write(field::host_tr_base, tss);
    write(field::host_gdtr_base, gdt.base);
    write(field::host_idtr_base, idt.base);
    write(field::host_ia32_sysenter_esp, 0);
    write(field::host_ia32_sysenter_eip, 0);
    write(field::host_rip, physical(l2_exit));
}

void fill_guest_segments() {
    write(field::guest_es_selector, 0x10);
    write(field::guest_cs_selector, 0x08);
    write(field::guest_ss_selector, 0x10);
    write(field::guest_ds_selector, 0x10);
    write(field::guest_fs_selector, 0);
    write(field::guest_gs_selector, 0);
    write(field::guest_ldtr_selector, 0);
    write(field::guest_tr_selector, 0x18);
    write(field::guest_es_limit, 0xFFFFFFFF);
    write(field::guest_cs_limit, 0xFFFFFFFF);
    write(field::guest_ss_limit, 0xFFFFFFFF);
    write(field::guest_ds_limit, 0xFFFFFFFF);
    write(field::guest_fs_limit, 0xFFFFFFFF);
    write(field::guest_gs_limit, 0xFFFFFFFF);
    write(field::guest_ldtr_limit, 0);
    write(field::guest_tr_limit, 0x67);
    write(field::guest_gdtr_limit, 0xFFFF);
    write(field::guest_idtr_limit, 0);
    write(field::guest_es_access_rights, data_rights);
    write(field::guest_cs_access_rights, code64_rights);
    write(field::guest_ss_access_rights, data_rights);
    write(field::guest_ds_access_rights, data_rights);
    write(field::guest_fs_access_rights, data_rights);
    write(field::guest_gs_access_rights, data_rights);
    write(field::guest_ldtr_access_rights, unusable);
    write(field::guest_tr_access_rights, busy_tss_rights);
    write(field::guest_es_base, 0);
    write(field::guest_cs_base, 0);
    write(field::guest_ss_base, 0);
    write(field::guest_ds_base, 0);
    write(field::guest_fs_base, 0);
    write(field::guest_gs_base, 0);
    write(field::guest_ldtr_base, 0);
    write(field::guest_tr_base, 0);
    write(field::guest_gdtr_base, physical(boot_gdt));
    write(field::guest_idtr_base, 0);
}

void fill_guest_state(const VmcsPlan& plan) {
    fill_guest_segments();
    write(field::vmcs_link_pointer, ~std::uint64_t{0});
    write(field::guest_ia32_debugctl, 0);
    write(field::guest_ia32_pat, read_msr(msr_pat));
    write(field::guest_ia32_efer,
          (plan.entry & entry_control::ia32e_mode_guest) != 0 ? read_msr(msr_efer) : 0);
    if ((capabilities.secondary.allowed1 & secondary::enable_ept) != 0) {
        write(field::guest_pdpte0, 0);
        write(field::guest_pdpte1, 0);
        write(field::guest_pdpte2, 0);
        write(field::guest_pdpte3, 0);
    }
    write(field::guest_interruptibility_state, 0);
    write(field::guest_activity_state, 0);
    write(field::guest_ia32_sysenter_cs, 0);
    if (capabilities.pin.may_set(pin::activate_vmx_preemption_timer))
        write(field::vmx_preemption_timer_value, 0);
    write(field::guest_cr0, read_cr0());
    write(field::guest_cr3, plan.cr3);
    write(field::guest_cr4, read_cr4());
    write(field::guest_dr7, 0x400);
    write(field::guest_rsp, plan.rsp);
    write(field::guest_rip, plan.rip);
    write(field::guest_rflags, 2);
    write(field::guest_pending_debug_exceptions, 0);
    write(field::guest_ia32_sysenter_esp, 0);
    write(field::guest_ia32_sysenter_eip, 0);
}

Page* vmxon_page = nullptr;

}  // namespace

VmcsPlan usual_plan(std::uint64_t rip, std::uint64_t ept_pointer) {
    VmcsPlan plan;
    plan.primary = primary::hlt_exiting | primary::activate_secondary_controls;
    plan.secondary = secondary::enable_ept | secondary::unrestricted_guest | secondary::enable_vpid;
    plan.exit = exit_control::host_address_space_size | exit_control::save_ia32_efer |
                exit_control::load_ia32_efer | exit_control::save_ia32_pat | exit_control::load_ia32_pat;
    plan.entry =
        entry_control::ia32e_mode_guest | entry_control::load_ia32_efer | entry_control::load_ia32_pat;
    plan.rip = rip;
    plan.cr3 = read_cr3();
    plan.ept_pointer = ept_pointer;
    plan.vpid = 1;
    return plan;
}

void write_own_host_state() {
    const std::uint64_t own = read_msr(msr_gs_base);
    write(field::host_gs_base, own);
    write(field::host_rsp, physical(exit_stack) + own);
}

void fill_vmcs(const VmcsPlan& plan) {
    fill_controls(plan);
    fill_host_state();
    fill_guest_state(plan);
}

Page* new_vmcs_region() {
    Page* const page = allocate_page();
    page->words[0] = capabilities.revision();
    return page;
}

bool enter_vmx_operation() {
    write_cr0((read_cr0() | capabilities.cr0_fixed0) & capabilities.cr0_fixed1);
    write_cr4((read_cr4() | capabilities.cr4_fixed0 | cr4_vmxe) & capabilities.cr4_fixed1);
    if (vmxon_page == nullptr) vmxon_page = new_vmcs_region();
    const std::uint64_t address = physical(vmxon_page);
    return try_vmxon(&address) == vm_succeed;
}

Page* vmxon_region() {
    return vmxon_page;
}

}  // namespace flatback::guests
