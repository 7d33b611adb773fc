#include "metal/l1_exits.hpp"

#include "host/cpuid.hpp"
#include "host/l1.hpp"
#include "metal/instructions.hpp"
#include "metal/interrupts.hpp"
#include "metal/log.hpp"
#include "metal/panic.hpp"
#include "nested/l1/complete_instruction.hpp"
#include "vmx/exit_qualification.hpp"
#include "vmx/field.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"
#include "x86/cpuid.hpp"
#include "x86/exception.hpp"

namespace flatback::metal {

namespace {

using nested::Fault;

template <vmx::FieldWidth W, vmx::FieldKind K>
vmx::field_value_t<W> get(vmx::Field<W, K> what) {
    return static_cast<vmx::field_value_t<W>>(vmread(what.encoding));
}
void put(auto what, std::uint64_t value) {
    vmwrite(what.encoding, value);
}

constexpr Fault general_protection{.vector = static_cast<std::uint8_t>(x86::Vector::general_protection),
                                   .has_error_code = true};
constexpr Fault invalid_opcode{.vector = static_cast<std::uint8_t>(x86::Vector::invalid_opcode)};

[[gnu::always_inline]] inline void advance() {
    nested::complete_instruction([](auto what) { return get(what); },
                                 [](auto what, std::uint64_t value) { put(what, value); },
                                 get(vmx::field::guest_rflags));
}

// The leaves of features, in L1's registers already.
[[gnu::noinline]] void adjust_features(Cpu& cpu, std::uint32_t leaf, std::uint32_t subleaf) {
    std::uint64_t* registers = cpu.frame.registers.by_number;
    x86::CpuidResult answer{
        .eax = static_cast<std::uint32_t>(registers[0]),
        .ebx = static_cast<std::uint32_t>(registers[3]),
        .ecx = static_cast<std::uint32_t>(registers[1]),
        .edx = static_cast<std::uint32_t>(registers[2]),
    };
    host::hide_features(leaf, subleaf, answer);
    const std::uint64_t cr4 = get(vmx::field::guest_cr4);
    if (leaf == x86::cpuid::leaf_features) {
        answer.ecx |= x86::cpuid::features_ecx_vmx | x86::cpuid::features_ecx_hypervisor;
        if ((cr4 & x86::cr4::xsave_enable) != 0) answer.ecx |= x86::cpuid::features_ecx_osxsave;
        if (!cpu.port.apic_enabled()) answer.edx &= ~x86::cpuid::features_edx_apic;
    } else if (leaf == x86::cpuid::leaf_extended_features && subleaf == 0) {
        if ((cr4 & x86::cr4::protection_key_enable) != 0) answer.ecx |= host::hidden::os_protection_keys;
    }
    registers[0] = answer.eax;
    registers[3] = answer.ebx;
    registers[1] = answer.ecx;
    registers[2] = answer.edx;
}

// CPUID: the processor's, but for what L1 has its own copy of and what L0 does not let it have.
[[gnu::always_inline]] inline void emulate_cpuid(Cpu& cpu) {
    std::uint64_t* registers = cpu.frame.registers.by_number;
    const auto leaf = static_cast<std::uint32_t>(registers[0]);
    const auto subleaf = static_cast<std::uint32_t>(registers[1]);
    if (leaf - x86::cpuid::leaf_hypervisor < 0x100) [[unlikely]] {
        information_leaf(cpu, leaf);
        return;
    }
    // 64-bit results: the processor clears their upper halves, as it would L1's.
    struct {
        std::uint64_t eax, ebx, ecx, edx;
    } result;
    asm volatile("cpuid"
                 : "=a"(result.eax), "=b"(result.ebx), "=c"(result.ecx), "=d"(result.edx)
                 : "a"(leaf), "c"(subleaf));
    registers[0] = result.eax;
    registers[3] = result.ebx;
    registers[1] = result.ecx;
    registers[2] = result.edx;
    if (host::is_adjusted(leaf)) [[unlikely]]
        adjust_features(cpu, leaf, subleaf);
}

// SDM 3C 25.4.1: DPL of SS is the current privilege level.
std::uint32_t privilege_level() {
    return x86::AccessRights{get(vmx::field::guest_ss_access_rights)}.privilege_level();
}

void emulate_msr(Cpu& cpu, bool write) {
    std::uint64_t* registers = cpu.frame.registers.by_number;
    const auto msr = static_cast<std::uint32_t>(registers[1]);
    if (write) {
        if (!cpu.vcpu.write_guest_msr(msr, (registers[2] << 32) | (registers[0] & 0xffffffff))) {
            cpu.vcpu.inject(general_protection);
            return;
        }
        cpu.vcpu.l1_msr_changed();
    } else {
        const auto value = cpu.vcpu.read_guest_msr(msr);
        if (!value) {
            cpu.vcpu.inject(general_protection);
            return;
        }
        registers[0] = *value & 0xffffffff;
        registers[2] = *value >> 32;
    }
    advance();
}

// What host/ asks of the processor itself.
struct ThisProcessor {
    static void set_cache_control(std::uint64_t bits) {
        constexpr std::uint64_t all = x86::cr0::cache_disable | x86::cr0::not_write_through;
        write_cr0((read_cr0() & ~all) | bits);
    }
};
static_assert(host::Processor<ThisProcessor>);

// Only MOV to CR0 that changes NE, and to CR4 that sets a bit of L0's mask, exit: the masks cover no bit that
// CLTS or LMSW change.
void emulate_control_register(Cpu& cpu) {
    ThisProcessor processor;
    host::L1 l1{cpu.vcpu, cpu.port, processor};
    const host::Outcome outcome = host::emulate_control_register_access(l1);
    if (outcome == host::Outcome::not_handled) {
        panic("an access of L1's to a control register that L0 does not intercept, qualification ",
              log::hex(get(vmx::field::exit_qualification)));
    }
    l1.conclude(outcome);
}

[[noreturn, gnu::cold]] void l1_died(const char* how) {
    refuse("L1 ended with ", how, " at RIP ", log::hex(get(vmx::field::guest_rip)), ", CR3 ",
           log::hex(get(vmx::field::guest_cr3)), ", RSP ", log::hex(get(vmx::field::guest_rsp)));
}

[[noreturn, gnu::cold]] void unexpected_exit(std::uint32_t exit_reason) {
    panic("an exit of L1's that L0 did not ask for, reason ", exit_reason, " (",
          name_of(vmx::ExitReasonField{exit_reason}.basic()), "), qualification ",
          log::hex(get(vmx::field::exit_qualification)));
}

[[gnu::cold, gnu::noinline]] nested::Entry handle_rare_l1_exit(Cpu& cpu, std::uint32_t exit_reason);

}  // namespace

nested::Entry handle_l1_exit(Cpu& cpu, std::uint32_t exit_reason) {
    using enum vmx::ExitReason;
    // By how often they come: what L1 does all the time first.
    if (exit_reason == static_cast<std::uint32_t>(vmx::ExitReason::cpuid)) [[likely]] {
        nested::Counters& counters = cpu.vcpu.counters();
        ++counters.handled_by_l0[static_cast<std::size_t>(vmx::ExitReason::cpuid)];
        emulate_cpuid(cpu);
        advance();
        return nested::Entry::vmresume;
    }
    switch (static_cast<vmx::ExitReason>(exit_reason)) {
        case vmcall:
        case vmclear:
        case vmlaunch:
        case vmptrld:
        case vmptrst:
        case vmx::ExitReason::vmread:
        case vmresume:
        case vmx::ExitReason::vmwrite:
        case vmxoff:
        case vmx::ExitReason::vmxon:
        case vmx::ExitReason::invept:
        case vmx::ExitReason::invvpid:
            return cpu.vcpu.handle_vmx_instruction(static_cast<vmx::ExitReason>(exit_reason));
        default:
            return handle_rare_l1_exit(cpu, exit_reason);
    }
}

namespace {

nested::Entry handle_rare_l1_exit(Cpu& cpu, std::uint32_t exit_reason) {
    using enum vmx::ExitReason;
    const vmx::ExitReasonField reason{exit_reason};
    nested::Counters& counters = cpu.vcpu.counters();
    if (reason.is_entry_failure()) {
        panic("the processor refused L1's state, exit reason ", log::hex(exit_reason), ", qualification ",
              get(vmx::field::exit_qualification));
    }
    if (static_cast<std::size_t>(reason.basic()) < nested::exit_reason_count) {
        ++counters.handled_by_l0[static_cast<std::size_t>(reason.basic())];
    }
    switch (reason.basic()) {
        case rdmsr:
            emulate_msr(cpu, false);
            break;
        case wrmsr:
            emulate_msr(cpu, true);
            break;
        case control_register_access:
            emulate_control_register(cpu);
            break;
        case xsetbv: {
            // There are processors that exit before they look at the privilege level.
            if (privilege_level() != 0) {
                cpu.vcpu.inject(general_protection);
                break;
            }
            std::uint64_t* registers = cpu.frame.registers.by_number;
            if (try_xsetbv(static_cast<std::uint32_t>(registers[1]),
                           (registers[2] << 32) | (registers[0] & 0xffffffff))) {
                advance();
            } else {
                cpu.vcpu.inject(general_protection);
            }
            break;
        }
        case invd:
            if (privilege_level() != 0) {
                cpu.vcpu.inject(general_protection);
                break;
            }
            // Without writing back, what L0 has in the caches would be lost too.
            asm volatile("wbinvd" ::: "memory");
            advance();
            break;
        case getsec:
            cpu.vcpu.inject(invalid_opcode);
            break;
        case ept_violation:
            if (cpu.port.handle_ept01_violation(get(vmx::field::guest_physical_address))) {
                cpu.vcpu.retry_l1();
            } else {
                cpu.vcpu.inject(general_protection);
            }
            break;
        case interrupt_window:
        case nmi_window:
            cpu.vcpu.close_nmi_window();  // the NMI that it was opened for is delivered now
            break;
        case exception_or_nmi:
            if (vmx::InterruptionInformation{get(vmx::field::vm_exit_interruption_information)} !=
                vmx::InterruptionInformation::nmi())
                unexpected_exit(exit_reason);
            cpu.vcpu.close_nmi_window();
            cpu.port.return_nmi();  // one that came while another waits, which the processor keeps as one
            break;
        case triple_fault:
            l1_ended("at RIP ", log::hex(get(vmx::field::guest_rip)), ", CS ",
                     log::hex(get(vmx::field::guest_cs_selector)), " (access rights ",
                     log::hex(get(vmx::field::guest_cs_access_rights)), "), CR0 ",
                     log::hex(get(vmx::field::guest_cr0)), ", CR3 ", log::hex(get(vmx::field::guest_cr3)),
                     ", RSP ", log::hex(get(vmx::field::guest_rsp)));
        case init_signal:
            l1_died("an INIT signal, which Flatback does not emulate,");
        case task_switch:
            l1_died("a hardware task switch, which Flatback does not emulate,");
        default:
            // An instruction that L0 does not know and that exits unasked, as SEAMCALL and TDCALL do where
            // the processor has TDX: L1's processor does not have it.
            if (static_cast<std::size_t>(reason.basic()) >= nested::exit_reason_count) {
                cpu.vcpu.inject(invalid_opcode);
                break;
            }
            unexpected_exit(exit_reason);
    }
    return nested::Entry::vmresume;
}

}  // namespace

}  // namespace flatback::metal
