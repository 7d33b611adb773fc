#include "host.hpp"

#include <flatback/machine/cpu/registers.hpp>
#include <flatback/nested/l1/complete_instruction.hpp>
#include <flatback/vmx/controls.hpp>
#include <flatback/vmx/exit_qualification.hpp>
#include <flatback/vmx/field.hpp>
#include <flatback/x86/control_registers.hpp>

namespace minimal_host {

namespace field = vmx::field;

namespace {

constexpr nested::Fault general_protection{.vector = 13, .has_error_code = true};

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

void Host::set_up_vmcs01() {
    const vmx::Capabilities has = capabilities_of(processor_);
    port_.write_host_state();

    // The controls. EFER, PAT and the debug controls are loaded and saved, because the engine keeps L1's in
    // vmcs01 while L2 runs; "enable VPID" and the tag only where the engine has one.
    const std::uint16_t tag = tag::raw(vcpu_.vpid01());
    put(field::pin_based_vm_execution_controls, has.pin_based.adjust(0));
    put(field::primary_processor_based_vm_execution_controls,
        has.primary_processor_based.adjust(vmx::primary::use_msr_bitmaps |
                                           vmx::primary::activate_secondary_controls));
    put(field::secondary_processor_based_vm_execution_controls,
        has.secondary_processor_based.adjust(vmx::secondary::enable_ept | vmx::secondary::unrestricted_guest |
                                             (tag != 0 ? vmx::secondary::enable_vpid : 0)));
    put(field::vm_exit_controls,
        has.vm_exit.adjust(vmx::exit_control::host_address_space_size |
                           vmx::exit_control::save_debug_controls | vmx::exit_control::save_ia32_pat |
                           vmx::exit_control::load_ia32_pat | vmx::exit_control::save_ia32_efer |
                           vmx::exit_control::load_ia32_efer));
    put(field::vm_entry_controls,
        has.vm_entry.adjust(vmx::entry_control::load_debug_controls | vmx::entry_control::load_ia32_pat |
                            vmx::entry_control::load_ia32_efer | vmx::entry_control::ia32e_mode_guest));
    put(field::virtual_processor_identifier, tag);
    put(field::ept_pointer, port_.ept01_pointer().value);
    put(field::address_of_msr_bitmaps, port_.l0_msr_bitmap().value());
    put(field::vmcs_link_pointer, ~std::uint64_t{0});

    // L1 believes that CR4.VMXE is its own, and the processor needs it set always; so with CR0.NE. L1 reads
    // the shadow, and a write that differs from it exits.
    const machine::Registers start = machine::kernel_registers(0x1000);  // CR3: L1's paging, made in l1.cpp
    put(field::cr0_guest_host_mask, x86::cr0::numeric_error);
    put(field::cr0_read_shadow, start.cr0);
    put(field::guest_cr0, start.cr0 | x86::cr0::numeric_error);
    put(field::cr4_guest_host_mask, x86::cr4::vmx_enable | promised_.unpromised_cr4);
    put(field::cr4_read_shadow, start.cr4);
    put(field::guest_cr4, start.cr4 | x86::cr4::vmx_enable);

    // The rest of L1's registers: those of a 64-bit kernel with flat segments.
    put(field::guest_cr3, start.cr3);
    put(field::guest_ia32_efer, start.efer);
    put(field::guest_ia32_pat, start.pat);
    put(field::guest_dr7, start.dr7);
    put(field::guest_rip, start.rip);
    put(field::guest_rflags, start.rflags);
    for (std::uint32_t index = 0; index < start.segments.size(); ++index) {
        const machine::Segment& segment = start.segments[index];
        port_.vmwrite(field::guest_es_selector.encoding + 2 * index, segment.selector);
        port_.vmwrite(field::guest_es_base.encoding + 2 * index, segment.base);
        port_.vmwrite(field::guest_es_limit.encoding + 2 * index, segment.limit);
        port_.vmwrite(field::guest_es_access_rights.encoding + 2 * index, segment.access_rights);
    }
    put(field::guest_gdtr_limit, start.gdtr.limit);
    put(field::guest_idtr_limit, start.idtr.limit);
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

// Step 6: what L1 does that is no VMX instruction, and that the controls above make exit.
nested::Entry Host::handle_l1_exit(vmx::ExitReason reason) {
    auto& general = processor_.cpu(0).registers.general;
    bool good = true;  // false: #GP(0)
    switch (reason) {
        case vmx::ExitReason::cpuid:  // of a real processor's CPUID a host passes on what its controls let
                                      // work
            for (const unsigned number : {0U, 1U, 2U, 3U}) general[number] = 0;
            break;
        case vmx::ExitReason::rdmsr: {
            const auto value = vcpu_.read_guest_msr(static_cast<std::uint32_t>(general[1]));
            good = value.has_value();
            if (!good) break;
            general[0] = *value & 0xffff'ffff;
            general[2] = *value >> 32;
            break;
        }
        case vmx::ExitReason::wrmsr:
            good = vcpu_.write_guest_msr(static_cast<std::uint32_t>(general[1]),
                                         general[2] << 32 | (general[0] & 0xffff'ffff));
            if (good) vcpu_.l1_msr_changed();  // EFER, PAT and SYSENTER_* live in vmcs01
            break;
        case vmx::ExitReason::control_register_access: {
            const auto access = vmx::ControlRegisterAccess::decode(get(field::exit_qualification));
            const std::uint64_t value = general[access.general_register];
            good = access.control_register == 0 ? write_cr0(value) : write_cr4(value);
            break;
        }
        default:
            port_.fatal("an exit of L1's that this host does not know");
    }
    if (good) {
        advance();
    } else {
        vcpu_.inject(general_protection);
    }
    return nested::Entry::vmresume;
}

// Only a change of CR0.NE exits, and in VMX operation one of what must be set there (SDM 3C 24.8). This L1
// stays in 64-bit mode.
bool Host::write_cr0(std::uint64_t value) {
    if (value >> 32 != 0 || (value & x86::cr0::paging) == 0) return false;
    if (vcpu_.in_vmx_operation() && !promised_.promised.cr0.permits(value)) return false;
    put(field::guest_cr0, value | x86::cr0::numeric_error);
    put(field::cr0_read_shadow, value);
    return true;
}

bool Host::write_cr4(std::uint64_t value) {
    using namespace x86::cr4;
    if ((value & ~promised_.promised.cr4.fixed1) != 0) return false;
    if ((value & physical_address_extension) == 0) return false;  // in 64-bit mode
    if (vcpu_.in_vmx_operation() && (value & vmx_enable) == 0) return false;
    const std::uint64_t before = get(field::guest_cr4);
    put(field::guest_cr4, value | vmx_enable);
    put(field::cr4_read_shadow, value);
    // What a MOV to CR4 drops of L1's translations, the processor does not drop where L0 writes the VMCS.
    if (((value ^ before) & (page_global_enable | smep_enable | pcid_enable)) != 0)
        vcpu_.l1_translations_changed();
    return true;
}

void Host::advance() {
    nested::complete_instruction(
        [this](auto what) { return static_cast<typename decltype(what)::Value>(get(what)); },
        [this](auto what, std::uint64_t value) { put(what, value); }, get(field::guest_rflags));
}

std::uint64_t* Host::l1_page(std::uint64_t address) {
    return reinterpret_cast<std::uint64_t*>(port_.l1_page(x86::Gpa<x86::L1>{address}));
}

}  // namespace minimal_host
