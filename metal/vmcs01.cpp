// The VMCS under which L1 runs: all devices and interrupts are its own, and only its memory is not all of it.
#include <cstdint>

#include "metal/cpu.hpp"
#include "metal/instructions.hpp"
#include "metal/panic.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"
#include "x86/segment.hpp"

namespace flatback::metal {

namespace {

void put(auto what, std::uint64_t value) {
    vmwrite(what.encoding, value);
}

std::uint32_t control(const char* name, vmx::ControlCapability capability, std::uint32_t needed,
                      std::uint32_t wanted) {
    const std::uint32_t value = capability.adjust(needed | (wanted & capability.allowed1));
    if ((value & needed) != needed) {
        refuse("this processor lacks ", name, " ", log::hex(needed & ~value), "; Flatback needs it");
    }
    return value;
}

}  // namespace

void set_up_vmcs01(Cpu& cpu, const BootResult& boot) {
    namespace field = vmx::field;
    const vmx::Capabilities& has = boot.processor.capabilities;
    const L1Start& start = boot.l1;
    const bool long_mode = start.mode == L1Start::Mode::long_mode;
    cpu.port.write_host_state();

    put(field::pin_based_vm_execution_controls, control("pin-based controls", has.pin_based, 0, 0));
    put(field::primary_processor_based_vm_execution_controls,
        control("primary processor-based controls", has.primary_processor_based,
                vmx::primary::use_msr_bitmaps | vmx::primary::activate_secondary_controls, 0));
    // What L1 sees in CPUID must work: these controls let it.
    constexpr std::uint32_t instructions = vmx::secondary::enable_rdtscp | vmx::secondary::enable_invpcid |
                                           vmx::secondary::enable_xsaves_xrstors |
                                           vmx::secondary::enable_user_wait_and_pause |
                                           vmx::secondary::enable_pconfig;
    const bool tagged = cpu.vcpu.vpid01() != tag::TagNumber::none;
    put(field::secondary_processor_based_vm_execution_controls,
        control("secondary processor-based controls", has.secondary_processor_based,
                vmx::secondary::enable_ept | vmx::secondary::unrestricted_guest |
                    (tagged ? vmx::secondary::enable_vpid : 0),
                instructions));
    put(field::vm_exit_controls,
        control("VM-exit controls", has.vm_exit,
                vmx::exit_control::host_address_space_size | vmx::exit_control::save_debug_controls |
                    vmx::exit_control::save_ia32_pat | vmx::exit_control::load_ia32_pat |
                    vmx::exit_control::save_ia32_efer | vmx::exit_control::load_ia32_efer,
                0));
    put(field::vm_entry_controls,
        control("VM-entry controls", has.vm_entry,
                vmx::entry_control::load_debug_controls | vmx::entry_control::load_ia32_pat |
                    vmx::entry_control::load_ia32_efer |
                    (long_mode ? vmx::entry_control::ia32e_mode_guest : 0),
                0));
    put(field::virtual_processor_identifier, tag::raw(cpu.vcpu.vpid01()));
    put(field::ept_pointer, cpu.port.ept01_pointer().value);
    put(field::address_of_msr_bitmaps, cpu.port.l0_msr_bitmap().value());
    put(field::vmcs_link_pointer, ~std::uint64_t{0});
    if (has.secondary_processor_based.may_set(vmx::secondary::enable_xsaves_xrstors))
        put(field::xss_exiting_bitmap, 0);
    put(field::exception_bitmap, 0);
    put(field::page_fault_error_code_mask, 0);
    put(field::page_fault_error_code_match, 0);
    put(field::cr3_target_count, 0);
    put(field::vm_exit_msr_store_count, 0);
    put(field::vm_exit_msr_load_count, 0);
    put(field::vm_entry_msr_load_count, 0);
    put(field::vm_entry_interruption_information, 0);

    // CR0.NE and CR4.VMXE are 1 in VMX operation, whatever L1 believes.
    const std::uint64_t cr0 = x86::cr0::protection_enable | x86::cr0::extension_type |
                              x86::cr0::numeric_error | (long_mode ? x86::cr0::paging : 0);
    const std::uint64_t cr4 = long_mode ? x86::cr4::physical_address_extension : 0;
    put(field::cr0_guest_host_mask, x86::cr0::numeric_error);
    put(field::cr0_read_shadow, cr0);
    put(field::guest_cr0, cr0);
    put(field::cr4_guest_host_mask, x86::cr4::vmx_enable | ~nested::offered::cr4);
    put(field::cr4_read_shadow, cr4);
    put(field::guest_cr4, cr4 | x86::cr4::vmx_enable);
    put(field::guest_cr3, start.cr3);
    put(field::guest_ia32_efer, long_mode ? x86::efer::long_mode_enable | x86::efer::long_mode_active : 0);
    put(field::guest_ia32_pat, read_msr(x86::msr::ia32_pat));
    put(field::guest_ia32_debugctl, 0);
    put(field::guest_dr7, 0x400);
    put(field::guest_rip, start.rip);
    put(field::guest_rsp, start.rsp);
    put(field::guest_rflags, x86::rflags::fixed_one);
    put(field::guest_interruptibility_state, 0);
    put(field::guest_activity_state, 0);
    put(field::guest_pending_debug_exceptions, 0);
    put(field::guest_ia32_sysenter_cs, 0);
    put(field::guest_ia32_sysenter_esp, 0);
    put(field::guest_ia32_sysenter_eip, 0);

    constexpr std::uint32_t data_rights = 0xc093;
    const std::uint32_t code_rights = long_mode ? 0xa09b : 0xc09b;
    struct {
        std::uint32_t number;
        std::uint16_t selector;
        std::uint32_t limit;
        std::uint32_t rights;
    } const segments[] = {
        {0, start.data_selector, 0xffffffff, data_rights}, {1, start.code_selector, 0xffffffff, code_rights},
        {2, start.data_selector, 0xffffffff, data_rights}, {3, start.data_selector, 0xffffffff, data_rights},
        {4, start.data_selector, 0xffffffff, data_rights}, {5, start.data_selector, 0xffffffff, data_rights},
        {6, 0, 0xffff, x86::AccessRights::unusable_bit},   {7, 0, 0xffff, 0x8b},
    };
    for (const auto& segment : segments) {  // ES, CS, SS, DS, FS, GS, LDTR, TR, two encodings apart
        vmwrite(field::guest_es_selector.encoding + 2 * segment.number, segment.selector);
        vmwrite(field::guest_es_base.encoding + 2 * segment.number, 0);
        vmwrite(field::guest_es_limit.encoding + 2 * segment.number, segment.limit);
        vmwrite(field::guest_es_access_rights.encoding + 2 * segment.number, segment.rights);
    }
    put(field::guest_gdtr_base, start.gdt_base);
    put(field::guest_gdtr_limit, start.gdt_limit);
    put(field::guest_idtr_base, 0);
    put(field::guest_idtr_limit, long_mode ? 0 : 0xffff);

    cpu.frame.registers.by_number[0] = start.rax;
    cpu.frame.registers.by_number[3] = start.rbx;
    cpu.frame.registers.by_number[6] = start.rsi;
}

}  // namespace flatback::metal
