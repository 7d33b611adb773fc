// The software machine decodes no instructions: a program says which one its virtual CPU executes, and gets
// what it does.
#include "l1.hpp"

#include <cstdio>
#include <flatback/machine/cpu/registers.hpp>
#include <flatback/vmx/capability.hpp>
#include <flatback/vmx/controls.hpp>
#include <flatback/vmx/exit_reason.hpp>
#include <flatback/vmx/field.hpp>
#include <flatback/x86/control_registers.hpp>

namespace minimal_host {
namespace {

namespace field = flatback::vmx::field;
namespace vmx = flatback::vmx;
namespace x86 = flatback::x86;
using flatback::machine::Instruction;
using flatback::machine::Opcode;
using Ended = VirtualCpu::Ended;

// L1's physical memory. Its own paging and its EPT map the first gigabyte one to one; each L2 has paging of
// its own.
constexpr std::uint64_t l1_paging = 0x1000, vmxon_region = 0x3000, operand = 0x4000, ept12 = 0x5000;
constexpr std::uint64_t vmcs12[] = {0x8000, 0x9000};
constexpr std::uint64_t l2_paging[] = {0x10000, 0x20000};
constexpr std::uint64_t data_of[] = {0x30000, 0x31000, 0x32000};
constexpr std::uint64_t datum = 0x5000;  // the linear address that both L2s read
constexpr std::uint16_t timer_port = 0x40, console_port = 0xe9;
constexpr std::uint8_t timer_vector = 0x20;

class L1 {
public:
    explicit L1(const VirtualCpu& cpu) : cpu_(cpu) {}

    bool run();

private:
    std::uint64_t& general(unsigned number) { return cpu_.processor.cpu(0).registers.general[number]; }
    bool expect(bool good, const char* what) {
        std::printf("  %s %s\n", good ? "ok    " : "WRONG ", what);
        good_ = good_ && good;
        return good;
    }
    // A VMX instruction; false: VMfail, or an exception.
    bool vmx_instruction(const Instruction& instruction) {
        if (cpu_.execute(instruction) == Ended::raised_exception) return false;
        return (cpu_.processor.cpu(0).registers.rflags & (x86::rflags::carry | x86::rflags::zero)) == 0;
    }
    bool with_operand(Opcode opcode, std::uint64_t low, std::uint64_t high = 0, std::uint64_t type = 0) {
        cpu_.l1_page(operand)[0] = low;
        cpu_.l1_page(operand)[1] = high;
        general(1) = type;
        return vmx_instruction({.opcode = opcode, .b = 1, .address = operand});
    }
    bool vmwrite(std::uint64_t encoding, std::uint64_t value) {
        general(0) = value;
        general(1) = encoding;
        return vmx_instruction({.opcode = Opcode::vmwrite, .a = 0, .b = 1});
    }
    std::uint64_t vmread(auto what) {
        general(1) = what.encoding;
        vmx_instruction({.opcode = Opcode::vmread, .a = 0, .b = 1});
        return general(0);
    }
    std::uint32_t control(std::uint32_t capability_msr, std::uint32_t wanted) {
        general(1) = capability_msr;
        cpu_.execute({.opcode = Opcode::rdmsr});
        const auto must_be_1 = static_cast<std::uint32_t>(general(0));
        return (wanted | must_be_1) & static_cast<std::uint32_t>(general(2));
    }
    bool prepare(unsigned which);
    // L2 reads the datum, and then executes CPUID, which exits to L1.
    std::uint64_t l2_reads(unsigned which, bool launch);
    bool out(std::uint16_t port, std::uint8_t value) {
        general(2) = port;
        general(0) = value;
        return cpu_.execute({.opcode = Opcode::out}) == Ended::done;
    }
    bool l2_writes_until_the_timer();

    const VirtualCpu& cpu_;
    bool good_ = true;
};

// A guest with EPT and a VPID, in 64-bit mode, at flat segments; L1's own state to come back to.
bool L1::prepare(unsigned which) {
    namespace msr = x86::msr;
    bool good = with_operand(Opcode::vmclear, vmcs12[which]) && with_operand(Opcode::vmptrld, vmcs12[which]);
    const auto put = [&](auto what, std::uint64_t value) { good = good && vmwrite(what.encoding, value); };
    put(field::pin_based_vm_execution_controls,
        control(msr::ia32_vmx_true_pinbased_ctls, vmx::pin::external_interrupt_exiting));
    put(field::primary_processor_based_vm_execution_controls,
        control(msr::ia32_vmx_true_procbased_ctls, vmx::primary::activate_secondary_controls));
    put(field::secondary_processor_based_vm_execution_controls,
        control(msr::ia32_vmx_procbased_ctls2, vmx::secondary::enable_ept | vmx::secondary::enable_vpid));
    put(field::vm_exit_controls,
        control(msr::ia32_vmx_true_exit_ctls, vmx::exit_control::host_address_space_size |
                                                  vmx::exit_control::load_ia32_efer |
                                                  vmx::exit_control::acknowledge_interrupt_on_exit));
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

std::uint64_t L1::l2_reads(unsigned which, bool launch) {
    if (!with_operand(Opcode::vmptrld, vmcs12[which])) return 0;
    if (!vmx_instruction({.opcode = launch ? Opcode::vmlaunch : Opcode::vmresume})) return 0;
    if (cpu_.execute({.opcode = Opcode::load, .a = 3, .address = datum}) != Ended::done) return 0;
    const std::uint64_t read = general(3);
    if (cpu_.execute({.opcode = Opcode::cpuid}) != Ended::exited_to_l1) return 0;
    if (vmread(field::exit_reason) != static_cast<std::uint64_t>(vmx::ExitReason::cpuid)) return 0;
    vmwrite(field::guest_rip.encoding, vmread(field::guest_rip) + vmread(field::vm_exit_instruction_length));
    return read;
}

// L2 writes to a port that L1 lets it use, until L1's timer interrupts it.
bool L1::l2_writes_until_the_timer() {
    if (!vmx_instruction({.opcode = Opcode::vmresume})) return false;
    for (unsigned n = 0; n < 100; ++n) {
        if (out(console_port, '.')) continue;
        return vmread(field::exit_reason) ==
                   static_cast<std::uint64_t>(vmx::ExitReason::external_interrupt) &&
               vmread(field::vm_exit_interruption_information) == (0x8000'0000 | timer_vector);
    }
    return false;
}

bool L1::run() {
    general(0) = cpu_.processor.cpu(0).registers.cr4 | x86::cr4::vmx_enable;
    expect(cpu_.execute({.opcode = Opcode::mov_to_cr4, .a = 0}) == Ended::done, "L1 sets CR4.VMXE");
    general(1) = x86::msr::ia32_vmx_basic;
    cpu_.execute({.opcode = Opcode::rdmsr});
    const std::uint64_t revision = general(0) & 0x7fff'ffff;
    for (const std::uint64_t region : {vmxon_region, vmcs12[0], vmcs12[1]})
        cpu_.l1_page(region)[0] = revision;
    if (!expect(with_operand(Opcode::vmxon, vmxon_region), "VMXON")) return false;
    if (!expect(prepare(0) && prepare(1), "two VMCSs, with VPID 1 and VPID 2")) return false;

    expect(l2_reads(0, true) == 1000, "the first L2 is launched, reads its page and exits by CPUID");
    expect(l2_reads(1, true) == 1001, "so does the second: another page at the same linear address");
    expect(l2_reads(0, false) == 1000, "the first again");

    // L1 gives its first guest another page. Until the INVVPID the processor may use what it has cached.
    cpu_.l1_page(l2_paging[0] + 0x3000)[datum >> 12] = data_of[2] | 0x63;
    expect(with_operand(Opcode::invvpid, 1, datum, 0), "INVVPID of VPID 1 and one address");
    expect(l2_reads(0, false) == 1002, "the first L2 reads the new page");
    expect(l2_reads(1, false) == 1001, "the second what it had");

    // A port and a timer, which the host has, and L1 and its guest find as if they were a PC's.
    expect(out(console_port, 'L'), "L1 writes to a port");
    expect(out(timer_port, 3), "L1 sets its timer");
    expect(l2_writes_until_the_timer(), "the second L2 writes to the port, and is interrupted by L1's timer");

    expect(!with_operand(Opcode::invvpid, 0, datum, 0), "INVVPID of VPID 0 fails ...");
    expect(vmread(field::vm_instruction_error) == 28, "... with error 28");
    expect(vmx_instruction({.opcode = Opcode::vmxoff}), "VMXOFF");
    return good_;
}

}  // namespace

void load_l1(const std::function<std::uint64_t*(std::uint64_t)>& l1_page) {
    constexpr std::uint64_t table = 0x23;         // present, writable, accessed
    constexpr std::uint64_t page = 0x63;          // the same, dirty
    constexpr std::uint64_t large = page | 0x80;  // 1 GB
    l1_page(l1_paging)[0] = 0x2000 | table;
    l1_page(0x2000)[0] = large;
    l1_page(ept12)[0] = 0x6000 | 7;
    l1_page(0x6000)[0] = 7 | 6 << 3 | 0x80;
    for (unsigned which = 0; which < 2; ++which) {
        const std::uint64_t root = l2_paging[which];
        for (unsigned level = 0; level < 3; ++level)
            l1_page(root + 0x1000 * level)[0] = (root + 0x1000 * (level + 1)) | table;
        l1_page(root + 0x3000)[datum >> 12] = data_of[which] | page;
    }
    for (unsigned index = 0; index < 3; ++index) l1_page(data_of[index])[0] = 1000 + index;
}

bool run_l1(const VirtualCpu& cpu) {
    return L1{cpu}.run();
}

}  // namespace minimal_host
