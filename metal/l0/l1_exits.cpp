#include "metal/l0/l1_exits.hpp"

#include "host/l1_exits.hpp"
#include "metal/ground/faulting_instructions.hpp"
#include "metal/ground/instructions.hpp"
#include "metal/ground/log.hpp"
#include "metal/ground/panic.hpp"
#include "metal/l0/apic_page.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"

namespace flatback::metal {

namespace {

// What host/ asks of the processor itself.
class ThisProcessor final {
public:
    explicit ThisProcessor(Cpu& cpu) : cpu_(cpu) {}

    [[gnu::always_inline]] static host::CpuidRegisters cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
        // 64-bit results: the processor clears their upper halves, as it would L1's.
        host::CpuidRegisters result;
        asm volatile("cpuid"
                     : "=a"(result.rax), "=b"(result.rbx), "=c"(result.rcx), "=d"(result.rdx)
                     : "a"(leaf), "c"(subleaf));
        return result;
    }
    [[nodiscard]] host::CpuidRegisters hypervisor_leaf(std::uint32_t leaf, std::uint32_t subleaf) const {
        return information_leaf(cpu_, leaf, subleaf);
    }
    [[nodiscard]] bool apic_enabled() const { return cpu_.port.apic_enabled(); }
    static void set_cache_control(std::uint64_t bits) {
        constexpr std::uint64_t all = x86::cr0::cache_disable | x86::cr0::not_write_through;
        write_cr0((read_cr0() & ~all) | bits);
    }
    [[nodiscard]] static bool write_xcr0(std::uint64_t value) { return try_xsetbv(0, value); }
    static void write_back_caches() { asm volatile("wbinvd" ::: "memory"); }

    // For CPUID, which by way of the Port would cost a load for each register.
    [[nodiscard, gnu::always_inline]] std::uint64_t& general_register(unsigned number) const {
        return cpu_.frame.registers.by_number[number];
    }
    template <vmx::FieldWidth W, vmx::FieldKind K>
    [[nodiscard]] vmx::field_value_t<W> get(vmx::Field<W, K> what) const {
        return metal::get(what);
    }

private:
    Cpu& cpu_;
};
static_assert(host::Processor<ThisProcessor> && host::CpuidHost<ThisProcessor>);

[[noreturn, gnu::cold]] void l1_died(const char* how) {
    refuse("L1 ended with ", how, " at RIP ", log::hex(get(vmx::field::guest_rip)), ", CR3 ",
           log::hex(get(vmx::field::guest_cr3)), ", RSP ", log::hex(get(vmx::field::guest_rsp)),
           ", processor ", this_processor_number());
}

[[noreturn, gnu::cold]] void unexpected_exit(std::uint32_t exit_reason) {
    panic("an exit of L1's that L0 did not ask for, reason ", exit_reason, " (",
          name_of(vmx::ExitReasonField{exit_reason}.basic()), "), qualification ",
          log::hex(get(vmx::field::exit_qualification)));
}

nested::Entry emulate_msr_access(Cpu& cpu, vmx::ExitReason reason) {
    ++cpu.vcpu.counters().handled_by_l0[static_cast<std::size_t>(reason)];
    ThisProcessor processor{cpu};
    host::L1 l1{cpu.vcpu, cpu.port, processor};
    if (reason == vmx::ExitReason::wrmsr) {
        // The one that comes all the time: EOI, the timer, interrupt commands. Nothing that lives in vmcs01.
        const auto msr = static_cast<std::uint32_t>(l1.general_register(1));
        if (host::is_x2apic_register(msr)) {
            const std::uint64_t value = l1.general_register(2) << 32 | (l1.general_register(0) & 0xffffffff);
            l1.conclude(cpu.port.local_apic().write(msr, value) ? host::Outcome::done
                                                                : host::Outcome::general_protection);
            return nested::Entry::vmresume;
        }
    }
    l1.conclude(reason == vmx::ExitReason::rdmsr ? host::emulate_rdmsr(l1) : host::emulate_wrmsr(l1));
    return nested::Entry::vmresume;
}

[[gnu::cold, gnu::noinline]] nested::Entry handle_rare_l1_exit(Cpu& cpu, std::uint32_t exit_reason);

// Out of the way of the VMX instructions, whose switch is the shorter for it.
[[gnu::noinline]] nested::Entry handle_other_l1_exit(Cpu& cpu, std::uint32_t exit_reason) {
    const auto reason = static_cast<vmx::ExitReason>(exit_reason);
    if (reason == vmx::ExitReason::rdmsr || reason == vmx::ExitReason::wrmsr)
        return emulate_msr_access(cpu, reason);
    return handle_rare_l1_exit(cpu, exit_reason);
}

}  // namespace

nested::Entry handle_l1_exit(Cpu& cpu, std::uint32_t exit_reason) {
    using enum vmx::ExitReason;
    // By how often they come: what L1 does all the time first.
    if (exit_reason == static_cast<std::uint32_t>(vmx::ExitReason::cpuid)) [[likely]] {
        nested::Counters& counters = cpu.vcpu.counters();
        ++counters.handled_by_l0[static_cast<std::size_t>(vmx::ExitReason::cpuid)];
        ThisProcessor processor{cpu};
        host::emulate_cpuid(processor);
        host::L1{cpu.vcpu, cpu.port, processor}.complete();
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
            return handle_other_l1_exit(cpu, exit_reason);
    }
}

namespace {

nested::Entry handle_rare_l1_exit(Cpu& cpu, std::uint32_t exit_reason) {
    using enum vmx::ExitReason;
    const vmx::ExitReasonField reason{exit_reason};
    nested::Counters& counters = cpu.vcpu.counters();
    if (reason.is_entry_failure()) {
        if (reason.basic() == entry_failure_machine_check) {
            cpu.port.return_machine_check();
            return nested::Entry::vmresume;
        }
        panic("the processor refused L1's state, exit reason ", log::hex(exit_reason), ", qualification ",
              get(vmx::field::exit_qualification));
    }
    if (static_cast<std::size_t>(reason.basic()) < nested::exit_reason_count) {
        ++counters.handled_by_l0[static_cast<std::size_t>(reason.basic())];
    }
    if (reason.basic() == ept_violation) {
        const std::uint64_t address = get(vmx::field::guest_physical_address);
        if (cpu.port.is_kept_apic_page(address) && emulate_apic_write(cpu, address))
            return nested::Entry::vmresume;
        if (cpu.port.is_kept_register_page(address) && emulate_register_write(cpu, address))
            return nested::Entry::vmresume;
    }
    ThisProcessor processor{cpu};
    host::L1 l1{cpu.vcpu, cpu.port, processor};
    if (host::handle_l1_exit(l1, reason.basic())) return nested::Entry::vmresume;
    switch (reason.basic()) {
        case triple_fault:
            l1_ended("at RIP ", log::hex(get(vmx::field::guest_rip)), ", CS ",
                     log::hex(get(vmx::field::guest_cs_selector)), " (access rights ",
                     log::hex(get(vmx::field::guest_cs_access_rights)), "), CR0 ",
                     log::hex(get(vmx::field::guest_cr0)), ", CR3 ", log::hex(get(vmx::field::guest_cr3)),
                     ", RSP ", log::hex(get(vmx::field::guest_rsp)), ", processor ", this_processor_number());
        case init_signal:
            l1_died("an INIT signal, which Flatback does not emulate,");
        case task_switch:
            l1_died("a hardware task switch, which Flatback does not emulate,");
        default:
            unexpected_exit(exit_reason);
    }
}

}  // namespace

}  // namespace flatback::metal
