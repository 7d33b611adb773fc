#include "l1.hpp"

#include <flatback/machine/cpu/registers.hpp>
#include <flatback/vmx/capability.hpp>
#include <flatback/vmx/controls.hpp>
#include <flatback/vmx/exit_reason.hpp>
#include <flatback/vmx/field.hpp>
#include <flatback/x86/control_registers.hpp>

namespace snapshot {

namespace field = flatback::vmx::field;
namespace vmx = flatback::vmx;
namespace x86 = flatback::x86;
using flatback::machine::Instruction;
using flatback::machine::Opcode;
using Ended = minimal_host::Host::Ended;

namespace {

// L1's physical memory, which its paging and its EPT map one to one; each L2 has paging of its own.
constexpr std::uint64_t l1_paging = 0x1000, vmxon_region = 0x3000, operand = 0x4000, ept12 = 0x5000;
constexpr std::uint64_t vmcs12[] = {0x8000, 0x9000};
constexpr std::uint64_t l2_paging[] = {0x10000, 0x20000};
constexpr std::uint64_t data_of[] = {0x30000, 0x31000};
constexpr std::uint64_t datum = 0x5000;  // the linear address that both L2s compute at

constexpr std::uint64_t rounds = 12;
constexpr std::uint64_t start_steps = 4, steps_of_a_round = 6,
                        end_step = start_steps + rounds * steps_of_a_round;

constexpr unsigned failed = 14;  // R14: something was not as it should be

}  // namespace

bool L1::execute(const Instruction& instruction) {
    if (host_.execute(instruction) == Ended::raised_exception) return false;
    return (processor_.cpu(0).registers.rflags & (x86::rflags::carry | x86::rflags::zero)) == 0;
}

bool L1::with_operand(Opcode opcode, std::uint64_t value) {
    host_.l1_page(operand)[0] = value;
    return execute({.opcode = opcode, .address = operand});
}

bool L1::vmwrite(std::uint64_t encoding, std::uint64_t value) {
    general(0) = value;
    general(1) = encoding;
    return execute({.opcode = Opcode::vmwrite, .a = 0, .b = 1});
}

std::uint64_t L1::vmread(std::uint64_t encoding) {
    general(1) = encoding;
    return execute({.opcode = Opcode::vmread, .a = 0, .b = 1}) ? general(0) : 0;
}

std::uint32_t L1::control(std::uint32_t capability_msr, std::uint32_t wanted) {
    general(1) = capability_msr;
    host_.execute({.opcode = Opcode::rdmsr});
    return (wanted | static_cast<std::uint32_t>(general(0))) & static_cast<std::uint32_t>(general(2));
}

// A guest with EPT and a VPID, in 64-bit mode.
bool L1::prepare(unsigned which) {
    namespace msr = x86::msr;
    bool good = with_operand(Opcode::vmclear, vmcs12[which]) && with_operand(Opcode::vmptrld, vmcs12[which]);
    const auto put = [&](auto what, std::uint64_t value) { good = good && vmwrite(what.encoding, value); };
    put(field::pin_based_vm_execution_controls, control(msr::ia32_vmx_true_pinbased_ctls, 0));
    put(field::primary_processor_based_vm_execution_controls,
        control(msr::ia32_vmx_true_procbased_ctls, vmx::primary::activate_secondary_controls));
    put(field::secondary_processor_based_vm_execution_controls,
        control(msr::ia32_vmx_procbased_ctls2, vmx::secondary::enable_ept | vmx::secondary::enable_vpid));
    put(field::vm_exit_controls,
        control(msr::ia32_vmx_true_exit_ctls,
                vmx::exit_control::host_address_space_size | vmx::exit_control::load_ia32_efer));
    put(field::vm_entry_controls,
        control(msr::ia32_vmx_true_entry_ctls,
                vmx::entry_control::ia32e_mode_guest | vmx::entry_control::load_ia32_efer));
    put(field::virtual_processor_identifier, which + 1);
    put(field::ept_pointer, ept12 | 0x1e);
    put(field::vmcs_link_pointer, ~std::uint64_t{0});

    const auto registers = flatback::machine::kernel_registers(l2_paging[which]);
    put(field::guest_cr0, registers.cr0);
    put(field::guest_cr3, registers.cr3);
    put(field::guest_cr4, registers.cr4 | x86::cr4::vmx_enable);
    put(field::guest_ia32_efer, registers.efer);
    put(field::guest_dr7, registers.dr7);
    put(field::guest_rip, 0x1000);
    put(field::guest_rflags, registers.rflags);
    for (std::uint32_t index = 0; index < registers.segments.size(); ++index) {
        const auto& segment = registers.segments[index];
        good = good && vmwrite(field::guest_es_selector.encoding + 2 * index, segment.selector) &&
               vmwrite(field::guest_es_limit.encoding + 2 * index, segment.limit) &&
               vmwrite(field::guest_es_access_rights.encoding + 2 * index, segment.access_rights);
    }
    put(field::host_cr0, registers.cr0);
    put(field::host_cr3, l1_paging);
    put(field::host_cr4, registers.cr4 | x86::cr4::vmx_enable);
    put(field::host_ia32_efer, registers.efer);
    put(field::host_cs_selector, 0x08);
    put(field::host_tr_selector, 0x18);
    put(field::host_rip, 0x2000);
    return good;
}

bool L1::do_step(std::uint64_t number) {
    switch (number) {
        case 0:
            general(0) = processor_.cpu(0).registers.cr4 | x86::cr4::vmx_enable;
            return execute({.opcode = Opcode::mov_to_cr4, .a = 0});
        case 1: {
            general(1) = x86::msr::ia32_vmx_basic;
            host_.execute({.opcode = Opcode::rdmsr});
            const std::uint64_t revision = general(0) & 0x7fff'ffff;
            for (const std::uint64_t region : {vmxon_region, vmcs12[0], vmcs12[1]})
                host_.l1_page(region)[0] = revision;
            return with_operand(Opcode::vmxon, vmxon_region);
        }
        case 2:
        case 3:
            return prepare(static_cast<unsigned>(number - 2));
        default:
            break;
    }
    const std::uint64_t round = (number - start_steps) / steps_of_a_round;
    switch ((number - start_steps) % steps_of_a_round) {
        case 0:
            return with_operand(Opcode::vmptrld, vmcs12[round % 2]);
        case 1:
            return execute({.opcode = round < 2 ? Opcode::vmlaunch : Opcode::vmresume});
        // L2 now: its value is read, another is made of it and stored.
        case 2:
            return host_.execute({.opcode = Opcode::load, .a = 3, .address = datum}) == Ended::done;
        case 3:
            general(3) = general(3) * 0x5851'f42d'4c95'7f2d + round;
            return host_.execute({.opcode = Opcode::store, .a = 3, .address = datum}) == Ended::done;
        case 4:
            return host_.execute({.opcode = Opcode::cpuid}) == Ended::exited_to_l1;
        // L1 again: L2 goes on behind its CPUID, and L1 writes to a port.
        default:
            if (vmread(field::exit_reason.encoding) != static_cast<std::uint64_t>(vmx::ExitReason::cpuid))
                return false;
            if (!vmwrite(field::guest_rip.encoding, vmread(field::guest_rip.encoding) + 2)) return false;
            general(2) = minimal_host::Host::console_port;
            general(0) = 'a' + round;
            return host_.execute({.opcode = Opcode::out}) == Ended::done;
    }
}

bool L1::step() {
    if (general(15) == end_step) return false;
    if (!do_step(general(15))) general(failed) = 1;
    ++general(15);
    return true;
}

std::uint64_t L1::result() {
    if (general(failed) != 0 || general(15) != end_step) return 0;
    return host_.l1_page(data_of[0])[0] ^ host_.l1_page(data_of[1])[0] * 3;
}

void L1::load() {
    constexpr std::uint64_t table = 0x23;         // present, writable, accessed
    constexpr std::uint64_t page = 0x63;          // the same, dirty
    constexpr std::uint64_t large = page | 0x80;  // 1 GB
    host_.l1_page(l1_paging)[0] = 0x2000 | table;
    host_.l1_page(0x2000)[0] = large;
    host_.l1_page(ept12)[0] = 0x6000 | 7;
    host_.l1_page(0x6000)[0] = 7 | 6 << 3 | 0x80;
    for (unsigned which = 0; which < 2; ++which) {
        const std::uint64_t root = l2_paging[which];
        for (unsigned level = 0; level < 3; ++level)
            host_.l1_page(root + 0x1000 * level)[0] = (root + 0x1000 * (level + 1)) | table;
        host_.l1_page(root + 0x3000)[datum >> 12] = data_of[which] | page;
        host_.l1_page(data_of[which])[0] = 1000 + which;
    }
    general(15) = general(failed) = 0;
}

}  // namespace snapshot
