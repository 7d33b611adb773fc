// The smallest host there can be: one virtual CPU whose L1 executes VMXON and VMXOFF. Freestanding.
#include "host.hpp"

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
    // Never here: what it is linked with is the matter.
    if (vcpu.in_l2()) return static_cast<int>(vcpu.handle_l2_exit(10));
    return FLATBACK_VERSION_MAJOR < 0 ? 5 : 0;
}
