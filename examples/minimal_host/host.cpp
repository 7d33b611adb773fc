#include "host.hpp"

#include <flatback/host/l1_exits.hpp>
#include <flatback/host/vmcs01.hpp>
#include <flatback/machine/cpu/registers.hpp>
#include <flatback/vmx/field.hpp>
#include <flatback/x86/control_registers.hpp>

namespace minimal_host {

namespace field = vmx::field;

namespace {

// The parts of the processor that no VMCS holds (flatback/host/processor.hpp). The software machine has no
// CPUID leaves, caches or extended states; on real VT-x these are CPUID, MOV to CR0, XSETBV and WBINVD.
struct ThisProcessor {
    machine::Registers& registers;

    static flatback::host::CpuidRegisters cpuid(std::uint32_t, std::uint32_t) { return {}; }
    static flatback::host::CpuidRegisters hypervisor_leaf(std::uint32_t, std::uint32_t) { return {}; }
    static bool apic_enabled() { return true; }
    void set_cache_control(std::uint64_t bits) {
        constexpr std::uint64_t all = x86::cr0::cache_disable | x86::cr0::not_write_through;
        registers.cr0 = (registers.cr0 & ~all) | bits;
    }
    static bool write_xcr0(std::uint64_t) { return false; }
    static void write_back_caches() {}
};

// What the processor can do, by RDMSR.
vmx::Capabilities capabilities_of(const machine::Machine& processor) {
    return vmx::Capabilities::from_msrs(
        [&](std::uint32_t number) { return processor.model().vmx.read(number).value_or(0); });
}

}  // namespace

// Step 3: the start. L1 is promised what this processor has and the engine implements; a VMCS for L1 is made;
// the tag that L1 is to run under was the engine's to choose, and what may still be cached under it is
// flushed before the first entry.
Host::Host(machine::Machine& processor)
    : processor_(processor),
      promised_(nested::make_capabilities(capabilities_of(processor), processor.model().physical_address_bits,
                                          /*offer_vpid=*/true)),
      port_(processor, promised_),
      vmcs01_(*port_.allocate_page()),
      vcpu_(port_, promised_, vpids_, vmcs01_, {}) {
    const x86::Hpa vmxon_region = *port_.allocate_page();
    *port_.page(vmxon_region) = port_.hardware_vmcs_revision();
    processor_.start_vmx_operation(0, vmxon_region.value());
    *port_.page(vmcs01_) = port_.hardware_vmcs_revision();
    port_.clear_vmcs(vmcs01_);
    port_.load_vmcs(vmcs01_);
    set_up_vmcs01();
    vcpu_.prepare_first_entry();
    enter(nested::Entry::vmlaunch);
}

// L1 starts as a 64-bit kernel with flat segments; CR3: its paging, made in l1.cpp. CR0.NE and CR4.VMXE,
// which the processor needs, are set in vmcs01 whatever L1 has: it reads shadows, and a write that differs
// exits.
void Host::set_up_vmcs01() {
    port_.write_host_state();
    flatback::host::L1State start = flatback::host::state_in_long_mode(0x08, 0x10, 0x10'0000, 0x1000);
    start.cr0 |= x86::cr0::numeric_error | x86::cr0::write_protect;
    start.efer |= x86::efer::execute_disable_enable;
    flatback::nested::CurrentVmcs vmcs{port_};
    const auto done = flatback::host::set_up_vmcs01(
        vmcs, capabilities_of(processor_),
        {.ept01_pointer = port_.ept01_pointer(), .msr_bitmap = port_.l0_msr_bitmap(), .tag = vcpu_.vpid01()},
        start);
    if (!done) port_.fatal(done.error().name);
}

// Step 4: the loop. Execute until an exit; let the engine or this host handle it; enter whoever is current
// then.
Host::Ended Host::execute(const machine::Instruction& instruction) {
    for (;;) {
        const bool from_l2 = vcpu_.in_l2();
        const machine::Completion completion = processor_.execute(0, instruction);
        if (completion.kind == machine::Completion::Kind::event) return Ended::raised_exception;
        if (completion.kind != machine::Completion::Kind::vm_exit) return Ended::done;

        const machine::Completion entered = enter(handle_exit(completion.exit_reason));
        if (from_l2 && !vcpu_.in_l2()) return Ended::exited_to_l1;
        if (entered.event) return Ended::raised_exception;
        // An EPT violation of L2's that L1 does not see: EPT02 has the page now, and L2 makes its access
        // again.
        if (!from_l2 || completion.exit_reason.basic() != vmx::ExitReason::ept_violation) return Ended::done;
    }
}

nested::Entry Host::handle_exit(vmx::ExitReasonField reason) {
    if (vcpu_.in_l2()) return vcpu_.handle_l2_exit(reason.value);
    if (reason.is_entry_failure()) port_.fatal("vmcs01 is refused: a bug of this host");
    if (vmx::is_vmx_instruction(reason.basic())) return vcpu_.handle_vmx_instruction(reason.basic());
    return handle_l1_exit(reason.basic());
}

// Step 5: entries, until one comes to stand. One into L2 may fail in either of two ways, and both are the
// engine's to deal with: as an exit (bad guest state, reason 33 or 34), or as VMfail (bad controls or host
// state).
machine::Completion Host::enter(nested::Entry how) {
    for (;;) {
        processor_.memory().note_direct_writes();  // the engine writes tables by pointers
        const machine::Completion entered = processor_.enter_guest(0, how == nested::Entry::vmlaunch);
        switch (entered.kind) {
            case machine::Completion::Kind::vm_entry:
                return entered;
            case machine::Completion::Kind::vm_exit:
                how = handle_exit(entered.exit_reason);
                break;
            default:
                if (!vcpu_.handle_failed_entry(static_cast<std::uint32_t>(get(field::vm_instruction_error))))
                    port_.fatal("the entry into L1 fails: a bug of this host");
                how = nested::Entry::vmresume;
        }
    }
}

// Step 6: what L1 does that is no VMX instruction, and that vmcs01 makes exit. All of it is in
// flatback/host/; this hypervisor only says what its processor is.
nested::Entry Host::handle_l1_exit(vmx::ExitReason reason) {
    ThisProcessor here{processor_.cpu(0).registers};
    flatback::host::L1 l1{vcpu_, port_, here};
    if (!flatback::host::handle_l1_exit(l1, reason))
        port_.fatal("an exit of L1's that this host does not know");
    return nested::Entry::vmresume;
}

std::uint64_t* Host::l1_page(std::uint64_t address) {
    return reinterpret_cast<std::uint64_t*>(port_.l1_page(x86::Gpa<x86::L1>{address}));
}

}  // namespace minimal_host
