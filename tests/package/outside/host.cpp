// The smallest host there can be: one virtual CPU whose L1 executes VMXON, VMXOFF, and what a host emulates.
// Freestanding.
#include "host.hpp"

#include <flatback/host/l1_exits.hpp>
#include <flatback/host/vmcs01.hpp>
#include <flatback/nested/capabilities.hpp>
#include <flatback/nested/vcpu.hpp>
#include <flatback/version.hpp>

#include "port.hpp"

namespace {

using namespace flatback;
using outside::l1_memory;
using outside::Port;
namespace field = vmx::field;

// L1: 64-bit code, the first gigabyte mapped one to one. Its VMXON's operand is at 3000H.
void set_up_l1(Port& port, std::uint32_t revision) {
    const auto word = [](unsigned page, unsigned index) -> std::uint64_t& {
        return reinterpret_cast<std::uint64_t*>(l1_memory[page])[index];
    };
    word(1, 0) = 0x2023;
    word(2, 0) = 0xe3;
    word(3, 0) = 0x4000;
    word(4, 0) = revision;
    port.put(field::guest_cr0, x86::cr0::paging | x86::cr0::protection_enable | x86::cr0::numeric_error);
    port.put(field::guest_cr3, 0x1000);
    port.put(field::guest_cr4, x86::cr4::physical_address_extension | x86::cr4::vmx_enable);
    port.put(field::cr4_read_shadow, x86::cr4::vmx_enable);
    port.put(field::cr4_guest_host_mask, x86::cr4::vmx_enable);
    port.put(field::guest_ia32_efer, x86::efer::long_mode_active | x86::efer::long_mode_enable);
    port.put(field::guest_cs_access_rights, 0xa09b);
    port.put(field::guest_ds_access_rights, 0xc093);
    port.put(field::guest_ss_access_rights, 0xc093);
    port.put(field::guest_rflags, 2);
    vmx::InstructionOperands operand;
    port.put(field::vm_exit_instruction_information, operand.encode().value);
    port.put(field::exit_qualification, 0x3000);  // the displacement
    port.put(field::vm_exit_instruction_length, 4);
}

struct Processor {
    static host::CpuidRegisters cpuid(std::uint32_t, std::uint32_t) { return {}; }
    static host::CpuidRegisters hypervisor_leaf(std::uint32_t, std::uint32_t) { return {}; }
    static bool apic_enabled() { return true; }
    static void set_cache_control(std::uint64_t) {}
    static bool write_xcr0(std::uint64_t) { return false; }
    static void write_back_caches() {}
};

// The host's half: vmcs01, which needs no more than VMX's must-be-1 controls here, and exits of L1's own.
int use_the_hosts_half(nested::NestedVcpu<Port>& vcpu, Port& port) {
    vmx::Capabilities all;
    const vmx::ControlCapability any{0, 0xffffffff};
    all.pin_based = all.primary_processor_based = all.secondary_processor_based = all.vm_exit = all.vm_entry =
        any;
    nested::CurrentVmcs vmcs{port};
    const host::Vmcs01Places places{.ept01_pointer = port.ept01_pointer(),
                                    .msr_bitmap = port.l0_msr_bitmap()};
    if (!host::set_up_vmcs01(vmcs, all, places, host::state_in_long_mode(8, 16, 0x1000, 0x1000))) return 20;

    Processor processor;
    host::L1 l1{vcpu, port, processor};
    port.general_register(0) = 1;
    if (!host::handle_l1_exit(l1, vmx::ExitReason::cpuid)) return 21;
    if ((port.general_register(1) & x86::cpuid::features_ecx_vmx) == 0) return 22;
    // MOV to CR4 from RAX: VMXE is L1's.
    port.general_register(0) = x86::cr4::physical_address_extension | x86::cr4::vmx_enable;
    port.put(field::exit_qualification, 4);
    if (!host::handle_l1_exit(l1, vmx::ExitReason::control_register_access)) return 23;
    if ((vmcs.get(field::cr4_read_shadow) & x86::cr4::vmx_enable) == 0) return 24;
    return host::handle_l1_exit(l1, vmx::ExitReason::triple_fault) ? 25 : 0;
}

tag::VpidPool vpids;

}  // namespace

int use_the_engine() {
    vmx::Capabilities hardware;
    hardware.cr0 = {0x80000021, 0xffffffff};
    hardware.cr4 = {x86::cr4::vmx_enable, 0x3fffff};
    static const nested::Capabilities promised = nested::make_capabilities(hardware, 36, true);
    static Port port;
    static nested::NestedVcpu<Port> vcpu{port, promised, vpids, x86::Hpa{0x1000}, {}};

    set_up_l1(port, promised.promised.basic.revision());
    vcpu.prepare_first_entry();
    if (vcpu.in_vmx_operation()) return 1;
    if (vcpu.handle_vmx_instruction(vmx::ExitReason::vmxon) != nested::Entry::vmresume) return 2;
    if (!vcpu.in_vmx_operation()) return 3;
    (void)vcpu.handle_vmx_instruction(vmx::ExitReason::vmptrld);
    (void)vcpu.handle_vmx_instruction(vmx::ExitReason::vmxoff);
    if (vcpu.in_vmx_operation()) return 4;
    if (const int wrong = use_the_hosts_half(vcpu, port)) return wrong;
    // Never here: what it is linked with is the matter.
    if (vcpu.in_l2()) return static_cast<int>(vcpu.handle_l2_exit(10));
    return FLATBACK_VERSION_MAJOR < 0 ? 5 : 0;
}
