// What L1 is at first, and how it sets up its guests.
#include <gtest/gtest.h>

#include "nested/vmcs/vmcs12.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "x86/control_registers.hpp"
#include "x86/segment.hpp"

namespace flatback::nested_test {

// A 64-bit kernel of L1's at privilege level 0.
void VirtualCpu::set_up_l1_state() {
    port.write_host_state();
    FakeVmcs& v = vmcs01();
    v.set(field::pin_based_vm_execution_controls, hardware.pin_based.adjust(0));
    v.set(field::primary_processor_based_vm_execution_controls,
          hardware.primary_processor_based.adjust(vmx::primary::use_msr_bitmaps |
                                                  vmx::primary::activate_secondary_controls));
    v.set(field::secondary_processor_based_vm_execution_controls,
          vmx::secondary::enable_ept | vmx::secondary::unrestricted_guest |
              (vpid01() != 0 ? vmx::secondary::enable_vpid : 0));
    v.set(field::virtual_processor_identifier, vpid01());
    constexpr std::uint32_t exits = vmx::exit_control::host_address_space_size |
                                    vmx::exit_control::save_debug_controls |
                                    vmx::exit_control::save_ia32_pat | vmx::exit_control::load_ia32_pat |
                                    vmx::exit_control::save_ia32_efer | vmx::exit_control::load_ia32_efer;
    v.set(field::vm_exit_controls, hardware.vm_exit.adjust(exits));
    v.set(field::vm_entry_controls,
          hardware.vm_entry.adjust(vmx::entry_control::load_debug_controls |
                                   vmx::entry_control::ia32e_mode_guest | vmx::entry_control::load_ia32_pat |
                                   vmx::entry_control::load_ia32_efer));
    v.set(field::ept_pointer, FakePort::ept01);
    v.set(field::vmcs_link_pointer, ~0ULL);
    v.set(field::cr0_guest_host_mask, x86::cr0::numeric_error);
    v.set(field::cr0_read_shadow, 0x8005'0033);
    v.set(field::cr4_guest_host_mask, x86::cr4::vmx_enable);
    v.set(field::cr4_read_shadow, 0x26a0);
    v.set(field::guest_cr0, 0x8005'0033);
    v.set(field::guest_cr3, layout::page_tables);
    v.set(field::guest_cr4, 0x26a0);
    v.set(field::guest_ia32_efer, 0xd01);
    v.set(field::guest_ia32_pat, 0x0007'0406'0007'0406);
    v.set(field::guest_dr7, 0x400);
    v.set(field::guest_rflags, 2);
    v.set(field::guest_rip, 0xffff'8000'0020'0000);
    v.set(field::guest_rsp, 0x9000);
    for (std::uint32_t n = 0; n < 6; ++n) {
        v.word(field::guest_es_selector.encoding + 2 * n) = n == 1 ? 0x10 : 0x18;
        v.word(field::guest_es_limit.encoding + 2 * n) = 0xffff'ffff;
        v.word(field::guest_es_access_rights.encoding + 2 * n) = n == 1 ? 0xa09b : 0xc093;
    }
    v.set(field::guest_ldtr_access_rights, x86::AccessRights::unusable_bit);
    v.set(field::guest_tr_selector, 0x40);
    v.set(field::guest_tr_limit, 0x67);
    v.set(field::guest_tr_access_rights, 0x8b);
    v.set(field::guest_gdtr_limit, 0x7f);
    v.set(field::guest_idtr_limit, 0xfff);
    port.forget_writes();

    constexpr std::uint64_t table_bits = 0x23;
    constexpr std::uint64_t page_bits = 0x63;
    for (unsigned level = 0; level < 3; ++level) {
        port.memory.write<std::uint64_t>(layout::page_tables + level * 0x1000,
                                         (layout::page_tables + (level + 1) * 0x1000) | table_bits);
    }
    for (std::uint64_t page = 0; page < 512; ++page) {
        port.memory.write<std::uint64_t>(layout::level1_table + page * 8, page << 12 | page_bits);
    }
}

void VirtualCpu::leave_64_bit_mode(std::uint32_t code_rights) {
    FakeVmcs& v = vmcs01();
    v.set(field::guest_cs_access_rights, code_rights);
    v.set(field::guest_ia32_efer, 0x801);
    v.set(field::vm_entry_controls, v.get(field::vm_entry_controls) & ~vmx::entry_control::ia32e_mode_guest);
    v.set(field::guest_rip, 0x10'0000);
    v.set(field::guest_pdpte0, (layout::page_tables + 0x2000) | 1);
}

void VirtualCpu::return_to_64_bit_mode() {
    FakeVmcs& v = vmcs01();
    v.set(field::guest_cs_access_rights, 0xa09b);
    v.set(field::guest_ia32_efer, 0xd01);
    v.set(field::vm_entry_controls, v.get(field::vm_entry_controls) | vmx::entry_control::ia32e_mode_guest);
}

void VirtualCpu::enter_vmx_operation() {
    ASSERT_EQ(vmxon(), vm_succeed);
}

void VirtualCpu::make_vmcs(unsigned n) {
    const std::uint64_t region = layout::vmcs_region(n);
    port.memory.write(region, nested::vmcs12_revision);
    ASSERT_EQ(vmclear(region), vm_succeed);
    ASSERT_EQ(vmptrld(region), vm_succeed);

    const vmx::Capabilities& has = capabilities.promised;
    write(field::pin_based_vm_execution_controls, has.pin_based.adjust(0));
    write(field::primary_processor_based_vm_execution_controls,
          has.primary_processor_based.adjust(vmx::primary::hlt_exiting));
    write(field::secondary_processor_based_vm_execution_controls, 0);
    constexpr std::uint32_t exits = vmx::exit_control::host_address_space_size |
                                    vmx::exit_control::save_debug_controls |
                                    vmx::exit_control::save_ia32_pat | vmx::exit_control::load_ia32_pat |
                                    vmx::exit_control::save_ia32_efer | vmx::exit_control::load_ia32_efer;
    write(field::vm_exit_controls, has.vm_exit.adjust(exits));
    constexpr std::uint32_t entries = vmx::entry_control::load_debug_controls |
                                      vmx::entry_control::ia32e_mode_guest |
                                      vmx::entry_control::load_ia32_pat | vmx::entry_control::load_ia32_efer;
    write(field::vm_entry_controls, has.vm_entry.adjust(entries));

    write(field::host_cr0, 0x8005'0033);
    write(field::host_cr3, layout::page_tables);
    write(field::host_cr4, 0x26a0);
    write(field::host_cs_selector, 0x10);
    write(field::host_ss_selector, 0x18);
    write(field::host_ds_selector, 0x18);
    write(field::host_es_selector, 0x18);
    write(field::host_fs_selector, 0x18);
    write(field::host_gs_selector, 0x18);
    write(field::host_tr_selector, 0x40);
    write(field::host_fs_base, 0x1'f000);
    write(field::host_gs_base, 0xffff'8000'0000'5000);
    write(field::host_tr_base, 0xffff'8000'0000'6000);
    write(field::host_gdtr_base, 0xffff'8000'0000'7000);
    write(field::host_idtr_base, 0xffff'8000'0000'8000);
    write(field::host_ia32_sysenter_cs, 0x10);
    write(field::host_ia32_sysenter_esp, 0xffff'8000'0000'9000);
    write(field::host_ia32_sysenter_eip, 0xffff'8000'0000'a000);
    write(field::host_rsp, 0xffff'8000'0000'b000);
    write(field::host_rip, layout::host_rip);
    write(field::host_ia32_pat, 0x0007'0406'0007'0406);
    write(field::host_ia32_efer, 0xd01);

    write(field::guest_cr0, 0x8005'0033);
    write(field::guest_cr3, 0x70'0000);
    write(field::guest_cr4, 0x26a0);
    for (std::uint32_t segment = 0; segment < 6; ++segment) {
        write_raw(field::guest_es_selector.encoding + 2 * segment, segment == 1 ? 0x20 : 0x28);
        write_raw(field::guest_es_limit.encoding + 2 * segment, 0xffff'ffff);
        write_raw(field::guest_es_access_rights.encoding + 2 * segment, segment == 1 ? 0xa09b : 0xc093);
    }
    write(field::guest_ldtr_access_rights, 0x1'0000);
    write(field::guest_tr_selector, 0x30);
    write(field::guest_tr_limit, 0x67);
    write(field::guest_tr_access_rights, 0x8b);
    write(field::guest_gdtr_limit, 0x7f);
    write(field::guest_idtr_limit, 0xfff);
    write(field::guest_dr7, 0x400);
    write(field::guest_rsp, 0x7f'0000);
    write(field::guest_rip, 0xffff'8000'0040'0000);
    write(field::guest_rflags, 0x202);
    write(field::guest_ia32_efer, 0xd01);
    write(field::guest_ia32_pat, 0x0007'0406'0007'0406);
    write(field::vmcs_link_pointer, ~0ULL);
}

void VirtualCpu::use_secondary(std::uint32_t bits) {
    raise(field::primary_processor_based_vm_execution_controls, vmx::primary::activate_secondary_controls);
    raise(field::secondary_processor_based_vm_execution_controls, bits);
}

void VirtualCpu::use_vpid(std::uint16_t vpid12) {
    use_secondary(vmx::secondary::enable_vpid);
    write(field::virtual_processor_identifier, vpid12);
}

void VirtualCpu::use_ept(std::uint64_t eptp12) {
    use_secondary(vmx::secondary::enable_ept);
    write(field::ept_pointer, eptp12);
}

void VirtualCpu::prepare_and_launch() {
    prepare();
    ASSERT_EQ(vmlaunch(), l2_runs);
}

}  // namespace flatback::nested_test
