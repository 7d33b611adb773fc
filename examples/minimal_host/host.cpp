#include "host.hpp"

#include <flatback/host/l1_exits.hpp>
#include <flatback/host/vmcs01.hpp>
#include <flatback/machine/cpu/registers.hpp>
#include <flatback/vmx/controls.hpp>
#include <flatback/vmx/exit_qualification.hpp>
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
    // Of L2 this host wants its timer's interrupts and every port. Of L1 it has them by vmcs01.
    if (!vcpu_.set_demands({.external_interrupts = true, .all_ports = true}))
        port_.fatal("this processor cannot do what the host demands");
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
    vmcs.put(field::pin_based_vm_execution_controls,
             vmcs.get(field::pin_based_vm_execution_controls) | vmx::pin::external_interrupt_exiting);
    vmcs.put(field::primary_processor_based_vm_execution_controls,
             vmcs.get(field::primary_processor_based_vm_execution_controls) |
                 vmx::primary::unconditional_io_exiting);
}

// Step 4: the loop. Execute until an exit; let the engine or this host handle it; enter whoever is current
// then.
Host::Ended Host::execute(const machine::Instruction& instruction) {
    for (;;) {
        const bool from_l2 = vcpu_.in_l2();
        // The machine has no interrupt controller: this is the timer's interrupt, between two instructions.
        if (++instructions_ % 4 == 0) {
            enter(handle_exit(processor_.take_from_guest(0).exit_reason));
            if (from_l2 && !vcpu_.in_l2()) return Ended::exited_to_l1;
        }
        const machine::Completion completion = processor_.execute(0, instruction);
        if (completion.kind == machine::Completion::Kind::event) return Ended::raised_exception;
        if (completion.kind != machine::Completion::Kind::vm_exit) return Ended::done;

        const machine::Completion entered = enter(handle_exit(completion.exit_reason));
        if (from_l2 && !vcpu_.in_l2()) return Ended::exited_to_l1;
        if (entered.event) return Ended::raised_exception;
        // An EPT violation of L2's that L1 does not see: EPT02 has the page now, and L2 makes its access
        // again. A window: what waited is delivered, and the instruction is still to come.
        const vmx::ExitReason reason = completion.exit_reason.basic();
        if (reason != vmx::ExitReason::interrupt_window &&
            (!from_l2 || reason != vmx::ExitReason::ept_violation)) {
            return Ended::done;
        }
    }
}

nested::Entry Host::handle_exit(vmx::ExitReasonField reason) {
    if (vcpu_.in_l2()) {
        const nested::Entry entry = vcpu_.handle_l2_exit(reason.value);
        return entry == nested::Entry::the_hosts ? handle_demanded_exit(reason.basic()) : entry;
    }
    if (reason.is_entry_failure()) port_.fatal("vmcs01 is refused: a bug of this host");
    if (vmx::is_vmx_instruction(reason.basic())) return vcpu_.handle_vmx_instruction(reason.basic());
    return handle_l1_exit(reason.basic());
}

// Step 5: entries, until one comes to stand. One into L2 may fail in either of two ways, and both are the
// engine's to deal with: as an exit (bad guest state, reason 33 or 34), or as VMfail (bad controls or host
// state).
machine::Completion Host::enter(nested::Entry how) {
    for (;;) {
        // What waits goes in if the guest can take it now. An L2 may exit to L1 in its place, or have a
        // window opened that tells when.
        if (!port_.events.empty()) (void)vcpu_.deliver(port_.events, how);
        processor_.memory().note_direct_writes();  // the engine writes tables by pointers
        const machine::Completion entered = processor_.enter_guest(0, how == nested::Entry::vmlaunch);
        switch (entered.kind) {
            case machine::Completion::Kind::vm_entry:
                return entered;
            case machine::Completion::Kind::vm_exit:
                how = handle_exit(entered.exit_reason);
                break;
            default: {
                const auto error = static_cast<std::uint32_t>(get(field::vm_instruction_error));
                const auto failed = vcpu_.handle_failed_entry(error);
                if (!failed) port_.fatal("the entry into L1 fails: a bug of this host");
                how = *failed;
            }
        }
    }
}

// Step 6: what L1 does that is no VMX instruction, and that vmcs01 makes exit. All of it is in
// flatback/host/; this hypervisor only says what its processor is.
nested::Entry Host::handle_l1_exit(vmx::ExitReason reason) {
    ThisProcessor here{processor_.cpu(0).registers};
    flatback::host::L1 l1{vcpu_, port_, here};
    if (reason == vmx::ExitReason::external_interrupt) {
        tick();
        return nested::Entry::vmresume;
    }
    if (reason == vmx::ExitReason::io_instruction) {
        write_port();
        l1.complete();
        return nested::Entry::vmresume;
    }
    if (!flatback::host::handle_l1_exit(l1, reason))
        port_.fatal("an exit of L1's that this host does not know");
    return nested::Entry::vmresume;
}

// Step 7: the same two of L2's, which come because this host has demanded them. L1 may have asked for the I/O
// instruction too: then it is L1's to do.
nested::Entry Host::handle_demanded_exit(vmx::ExitReason reason) {
    if (reason == vmx::ExitReason::external_interrupt) {
        tick();
        return vcpu_.resume();
    }
    if (!vcpu_.l1_wants_hosts_exit()) write_port();
    return vcpu_.resume_behind_instruction();
}

// The host's timer, from which it makes L1's.
void Host::tick() {
    ++ticks_;
    if (devices_.l1_timer != 0 && --devices_.l1_timer == 0)
        port_.events.add(nested::Event::interrupt(timer_vector));
}

// OUT of AL by the guest that is current.
void Host::write_port() {
    const auto value = static_cast<std::uint8_t>(port_.general_register(0));
    const auto access = vmx::IoAccess::decode(get(field::exit_qualification));
    if (access.port == timer_port) devices_.l1_timer = value;
    if (access.port == console_port) devices_.console.push_back(static_cast<char>(value));
}

std::uint64_t* Host::l1_page(std::uint64_t address) {
    return reinterpret_cast<std::uint64_t*>(port_.l1_page(x86::Gpa<x86::L1>{address}));
}

}  // namespace minimal_host
