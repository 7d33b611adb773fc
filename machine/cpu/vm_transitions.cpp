// VM entries and VM exits (SDM 3C chapters 27 and 28).
#include <algorithm>

#include "machine/cpu/machine.hpp"
#include "machine/error.hpp"
#include "machine/rules/address.hpp"
#include "machine/rules/event.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/msr_numbers.hpp"
#include "x86/paging_bits.hpp"

namespace flatback::machine {

using vmx::ExitReason;
namespace field = vmx::field;

namespace {

Segment segment_from(const Vmcs& vmcs, std::uint32_t index) {
    return {static_cast<std::uint16_t>(vmcs.read(field::guest_es_selector.encoding + 2 * index)),
            vmcs.read(field::guest_es_base.encoding + 2 * index),
            static_cast<std::uint32_t>(vmcs.read(field::guest_es_limit.encoding + 2 * index)),
            static_cast<std::uint32_t>(vmcs.read(field::guest_es_access_rights.encoding + 2 * index))};
}

void segment_to(Vmcs& vmcs, std::uint32_t index, const Segment& segment) {
    vmcs.write(field::guest_es_selector.encoding + 2 * index, segment.selector);
    vmcs.write(field::guest_es_base.encoding + 2 * index, segment.base);
    vmcs.write(field::guest_es_limit.encoding + 2 * index, segment.limit);
    vmcs.write(field::guest_es_access_rights.encoding + 2 * index, segment.access_rights);
}

/// Bits of CR0 that VM entries and exits leave as they are: ET, the reserved ones, CD and NW (SDM
/// 3C 27.3.2.1).
constexpr std::uint64_t cr0_kept =
    x86::cr0::extension_type | x86::cr0::cache_disable | x86::cr0::not_write_through | 0x1FFA'FFC0;

}  // namespace

void Machine::flush_at_transition(Cpu& cpu, const Vmcs& vmcs) {
    if ((secondary_controls(vmcs) & vmx::secondary::enable_vpid) == 0) {
        cpu.tlb->invalidate(invalidation::vm_transition_without_vpid());
    }
}

void Machine::load_guest_state(Cpu& cpu, const Vmcs& vmcs) {
    Registers& registers = cpu.registers;
    const std::uint32_t entry = vmcs.get(field::vm_entry_controls);
    registers.cr0 = (registers.cr0 & cr0_kept) | (vmcs.get(field::guest_cr0) & ~cr0_kept);
    registers.cr3 = vmcs.get(field::guest_cr3);
    registers.cr4 = vmcs.get(field::guest_cr4);
    if ((entry & vmx::entry_control::load_debug_controls) != 0) {
        registers.dr7 = vmcs.get(field::guest_dr7);
        registers.debugctl = vmcs.get(field::guest_ia32_debugctl);
    }
    registers.sysenter_cs = vmcs.get(field::guest_ia32_sysenter_cs);
    registers.sysenter_esp = vmcs.get(field::guest_ia32_sysenter_esp);
    registers.sysenter_eip = vmcs.get(field::guest_ia32_sysenter_eip);
    if ((entry & vmx::entry_control::load_ia32_efer) != 0) {
        registers.efer = vmcs.get(field::guest_ia32_efer);
    } else {
        // LMA is the entry control's setting, and LME too where CR0.PG is loaded with 1 (SDM 3C 27.3.2.1).
        const bool long_mode = (entry & vmx::entry_control::ia32e_mode_guest) != 0;
        std::uint64_t changed = x86::efer::long_mode_active;
        if ((registers.cr0 & x86::cr0::paging) != 0) changed |= x86::efer::long_mode_enable;
        registers.efer = (registers.efer & ~changed) | (long_mode ? changed : 0);
    }
    if ((entry & vmx::entry_control::load_ia32_pat) != 0) registers.pat = vmcs.get(field::guest_ia32_pat);
    for (std::uint32_t index = 0; index < registers.segments.size(); ++index) {
        registers.segments[index] = segment_from(vmcs, index);
    }
    registers.gdtr = {vmcs.get(field::guest_gdtr_base), vmcs.get(field::guest_gdtr_limit)};
    registers.idtr = {vmcs.get(field::guest_idtr_base), vmcs.get(field::guest_idtr_limit)};
    registers.general[4] = vmcs.get(field::guest_rsp);
    registers.rip = vmcs.get(field::guest_rip);
    registers.rflags = vmcs.get(field::guest_rflags);
    registers.interruptibility = vmcs.get(field::guest_interruptibility_state);
    registers.activity = static_cast<vmx::ActivityState>(vmcs.get(field::guest_activity_state));
    registers.pending_debug = vmcs.get(field::guest_pending_debug_exceptions);
    if (registers.uses_pae()) registers.pdptes = guest_pdptes(vmcs);
}

void Machine::save_guest_state(const Cpu& cpu, Vmcs& vmcs) const {
    const Registers& registers = cpu.registers;
    const std::uint32_t exits = vmcs.get(field::vm_exit_controls);
    vmcs.set(field::guest_cr0, registers.cr0);
    vmcs.set(field::guest_cr3, registers.cr3);
    vmcs.set(field::guest_cr4, registers.cr4);
    if ((exits & vmx::exit_control::save_debug_controls) != 0) {
        vmcs.set(field::guest_dr7, registers.dr7);
        vmcs.set(field::guest_ia32_debugctl, registers.debugctl);
    }
    vmcs.set(field::guest_ia32_sysenter_cs, static_cast<std::uint32_t>(registers.sysenter_cs));
    vmcs.set(field::guest_ia32_sysenter_esp, registers.sysenter_esp);
    vmcs.set(field::guest_ia32_sysenter_eip, registers.sysenter_eip);
    if ((exits & vmx::exit_control::save_ia32_efer) != 0) vmcs.set(field::guest_ia32_efer, registers.efer);
    if ((exits & vmx::exit_control::save_ia32_pat) != 0) vmcs.set(field::guest_ia32_pat, registers.pat);
    if (model_.vmx.has_misc(rules::misc::store_lma)) {
        const std::uint32_t entry = vmcs.get(field::vm_entry_controls);
        vmcs.set(field::vm_entry_controls, registers.in_long_mode()
                                               ? entry | vmx::entry_control::ia32e_mode_guest
                                               : entry & ~vmx::entry_control::ia32e_mode_guest);
    }
    for (std::uint32_t index = 0; index < registers.segments.size(); ++index) {
        segment_to(vmcs, index, registers.segments[index]);
    }
    vmcs.set(field::guest_gdtr_base, registers.gdtr.base);
    vmcs.set(field::guest_gdtr_limit, registers.gdtr.limit);
    vmcs.set(field::guest_idtr_base, registers.idtr.base);
    vmcs.set(field::guest_idtr_limit, registers.idtr.limit);
    vmcs.set(field::guest_rsp, registers.general[4]);
    vmcs.set(field::guest_rip, registers.rip);
    vmcs.set(field::guest_rflags, registers.rflags);
    vmcs.set(field::guest_interruptibility_state, registers.interruptibility);
    vmcs.set(field::guest_activity_state, static_cast<std::uint32_t>(registers.activity));
    vmcs.set(field::guest_pending_debug_exceptions, registers.pending_debug);
    if (registers.uses_pae() && (secondary_controls(vmcs) & vmx::secondary::enable_ept) != 0) {
        vmcs.set(field::guest_pdpte0, registers.pdptes[0]);
        vmcs.set(field::guest_pdpte1, registers.pdptes[1]);
        vmcs.set(field::guest_pdpte2, registers.pdptes[2]);
        vmcs.set(field::guest_pdpte3, registers.pdptes[3]);
    }
}

void Machine::load_host_state(Cpu& cpu, const Vmcs& vmcs, bool nmis_blocked) {
    Registers& registers = cpu.registers;
    const std::uint32_t exits = vmcs.get(field::vm_exit_controls);
    const bool host_64_bit = (exits & vmx::exit_control::host_address_space_size) != 0;
    registers.cr0 = (registers.cr0 & cr0_kept) | (vmcs.get(field::host_cr0) & ~cr0_kept);
    registers.cr3 = vmcs.get(field::host_cr3);
    registers.cr4 = vmcs.get(field::host_cr4);
    registers.dr7 = x86::dr7::reset_value;
    registers.debugctl = 0;
    registers.sysenter_cs = vmcs.get(field::host_ia32_sysenter_cs);
    registers.sysenter_esp = vmcs.get(field::host_ia32_sysenter_esp);
    registers.sysenter_eip = vmcs.get(field::host_ia32_sysenter_eip);
    constexpr std::uint64_t long_mode = x86::efer::long_mode_active | x86::efer::long_mode_enable;
    registers.efer = (registers.efer & ~long_mode) | (host_64_bit ? long_mode : 0);
    if ((exits & vmx::exit_control::load_ia32_efer) != 0) registers.efer = vmcs.get(field::host_ia32_efer);
    if ((exits & vmx::exit_control::load_ia32_pat) != 0) registers.pat = vmcs.get(field::host_ia32_pat);
    // SDM 3C 28.5.2: flat segments, whatever the descriptors say.
    const auto flat = [&](SegmentName name, std::uint16_t selector, std::uint64_t base,
                          std::uint32_t rights) {
        registers.segment(name) = {selector, base, 0xFFFF'FFFF,
                                   selector == 0 ? x86::AccessRights::unusable_bit : rights};
    };
    flat(SegmentName::cs, vmcs.get(field::host_cs_selector), 0,
         host_64_bit ? flat_segment::code_64 : 0xC09BU);
    flat(SegmentName::ss, vmcs.get(field::host_ss_selector), 0, flat_segment::data);
    flat(SegmentName::ds, vmcs.get(field::host_ds_selector), 0, flat_segment::data);
    flat(SegmentName::es, vmcs.get(field::host_es_selector), 0, flat_segment::data);
    flat(SegmentName::fs, vmcs.get(field::host_fs_selector), vmcs.get(field::host_fs_base),
         flat_segment::data);
    flat(SegmentName::gs, vmcs.get(field::host_gs_selector), vmcs.get(field::host_gs_base),
         flat_segment::data);
    registers.segment(SegmentName::ldtr) = Segment{};
    registers.segment(SegmentName::tr) = {vmcs.get(field::host_tr_selector), vmcs.get(field::host_tr_base),
                                          0x67, flat_segment::task};
    registers.gdtr = {vmcs.get(field::host_gdtr_base), 0xFFFF};
    registers.idtr = {vmcs.get(field::host_idtr_base), 0xFFFF};
    registers.general[4] = vmcs.get(field::host_rsp);
    registers.rip = vmcs.get(field::host_rip);
    registers.rflags = x86::rflags::fixed_one;
    // Nothing is left of STI and MOV SS (SDM 3C 28.5.6).
    registers.interruptibility = nmis_blocked ? vmx::interruptibility::blocking_by_nmi : 0;
    registers.activity = vmx::ActivityState::active;
    registers.pending_debug = 0;
    // SDM 3C 28.5.4: a host with PAE paging loads its PDPTEs, and bad ones are a VMX abort.
    if (registers.uses_pae()) {
        registers.pdptes = pdptes_at(registers.cr3 & 0xFFFF'FFE0);
        if (!are_loadable(registers.pdptes)) throw LimitReached("VMX abort: PDPTEs of the host");
    }
}

std::uint64_t Machine::load_msr_list(Cpu& cpu, std::uint64_t address, std::uint32_t count) {
    for (std::uint32_t index = 0; index < count; ++index, address += 16) {
        const std::uint64_t entry = memory_.read(address);
        const auto number = static_cast<std::uint32_t>(entry);
        // FS.base and GS.base have fields; x2APIC MSRs can't be in a list (SDM 3C 27.4).
        const bool refused = number == x86::msr::ia32_fs_base || number == x86::msr::ia32_gs_base ||
                             (number >= x86::msr::x2apic_first && number <= x86::msr::x2apic_last) ||
                             entry >> 32 != 0;
        if (refused || !set_msr(cpu, number, memory_.read(address + 8))) return index + 1;
    }
    return 0;
}

void Machine::store_msr_list(const Cpu& cpu, std::uint64_t address, std::uint32_t count) {
    for (std::uint32_t index = 0; index < count; ++index, address += 16) {
        const std::uint64_t entry = memory_.read(address);
        const std::optional<std::uint64_t> value = msr(cpu, static_cast<std::uint32_t>(entry));
        // A failure here is a VMX abort, which shuts the processor down (SDM 3C 28.7).
        if (!value || entry >> 32 != 0) throw LimitReached("VMX abort: VM-exit MSR-store list");
        memory_.write(address + 8, *value);
    }
}

Completion Machine::vm_entry(unsigned number, Opcode opcode) {
    Cpu& cpu = cpus_[number];
    Vmcs& vmcs = current(cpu);
    if (const char* failed = check_controls(vmcs)) {
        return vm_fail(number, opcode, vmx::InstructionError::entry_with_invalid_control_fields, failed);
    }
    if (const char* failed = check_host_state(cpu, vmcs)) {
        return vm_fail(number, opcode, vmx::InstructionError::entry_with_invalid_host_state_fields, failed);
    }
    if (const EntryFailure failure = check_guest_state(vmcs); failure.check != nullptr) {
        const bool blocked = (cpu.registers.interruptibility & vmx::interruptibility::blocking_by_nmi) != 0;
        return entry_failure(number, ExitReason::entry_failure_guest_state, failure, blocked);
    }
    flush_at_transition(cpu, vmcs);
    const bool nmis_were_blocked =
        (cpu.registers.interruptibility & vmx::interruptibility::blocking_by_nmi) != 0;
    load_guest_state(cpu, vmcs);
    const std::uint64_t failed_entry = load_msr_list(cpu, vmcs.get(field::vm_entry_msr_load_address),
                                                     vmcs.get(field::vm_entry_msr_load_count));
    if (failed_entry != 0) {
        return entry_failure(number, ExitReason::entry_failure_msr_loading,
                             {"VM-entry MSR-load list (27.4)", failed_entry}, nmis_were_blocked);
    }
    if (opcode == Opcode::vmlaunch) vmcs.launch_state = Vmcs::LaunchState::launched;
    // SDM 3C 26.5.1: it counts down by one each time that one bit of the time-stamp counter changes.
    cpu.timer_ends.reset();
    if ((vmcs.get(field::pin_based_vm_execution_controls) & vmx::pin::activate_vmx_preemption_timer) != 0)
        cpu.timer_ends = timer_now() + vmcs.get(field::vmx_preemption_timer_value);
    cpu.in_root = false;
    state_changed(number);
    Completion completion{.kind = Completion::Kind::vm_entry};
    const rules::EventInformation event{vmcs.get(field::vm_entry_interruption_information)};
    if (event.is_valid()) {
        // The valid bit is cleared at the next VM exit (28.2.4), which may be one during the delivery: the
        // entry has been made by then.
        const Delivery delivery{event,
                                event.has_error_code() ? vmcs.get(field::vm_entry_exception_error_code) : 0,
                                event.is_instruction() ? vmcs.get(field::vm_entry_instruction_length) : 0};
        Completion delivered = deliver_from_outside(number, delivery);
        if (delivered.kind != Completion::Kind::event) return delivered;
        // Software interrupts and exceptions return past their instruction; where there is no IDT here.
        if (!delivered.through_idt && delivered.event == delivered.began)
            cpu.registers.rip += delivery.instruction_length;
        delivered.kind = Completion::Kind::vm_entry;
        return delivered;
    }
    return completion;
}

/// SDM 3C 27.8: what was loaded is given up and host state loaded; the VMCS's guest-state area stays as it
/// was.
Completion Machine::entry_failure(unsigned number, ExitReason reason, const EntryFailure& failure,
                                  bool nmis_were_blocked) {
    Cpu& cpu = cpus_[number];
    Vmcs& vmcs = current(cpu);
    const vmx::ExitReasonField exit_reason = vmx::ExitReasonField::entry_failure(reason);
    vmcs.set(field::exit_reason, exit_reason.value);
    vmcs.set(field::exit_qualification, failure.qualification);
    // A failed entry that loads guest state counts as entry and exit; this model counts every such failure
    // so.
    flush_at_transition(cpu, vmcs);
    load_host_state(cpu, vmcs, nmis_were_blocked);
    if (load_msr_list(cpu, vmcs.get(field::vm_exit_msr_load_address),
                      vmcs.get(field::vm_exit_msr_load_count)) != 0) {
        throw LimitReached("VMX abort: VM-exit MSR-load list");
    }
    cpu.in_root = true;
    state_changed(number);
    return {.kind = Completion::Kind::vm_exit, .exit_reason = exit_reason, .failed_check = failure.check};
}

bool Machine::blocks_nmis_after_exit(const Cpu& cpu, const Vmcs& vmcs, bool caused_by_nmi) {
    if (caused_by_nmi) return true;
    // With virtual NMIs the bit is of those, and the processor's own are not blocked (27.7.1).
    const bool virtual_nmis =
        (vmcs.get(field::pin_based_vm_execution_controls) & vmx::pin::virtual_nmis) != 0;
    return !virtual_nmis && (cpu.registers.interruptibility & vmx::interruptibility::blocking_by_nmi) != 0;
}

Completion Machine::vm_exit(unsigned number, const ExitInformation& information) {
    Cpu& cpu = cpus_[number];
    Vmcs& vmcs = current(cpu);
    const vmx::ExitReasonField exit_reason{static_cast<std::uint32_t>(information.reason)};
    vmcs.set(field::exit_reason, exit_reason.value);
    vmcs.set(field::exit_qualification, information.qualification);
    vmcs.set(field::vm_exit_interruption_information, information.interruption_information);
    vmcs.set(field::vm_exit_interruption_error_code, information.interruption_error_code);
    // SDM 3C 28.2.4.
    const Delivery delivering = cpu.delivering.value_or(Delivery{});
    vmcs.set(field::idt_vectoring_information, delivering.information.value);
    vmcs.set(field::idt_vectoring_error_code,
             delivering.information.has_error_code() ? delivering.error_code : 0);
    vmcs.set(field::vm_exit_instruction_length, delivering.information.is_instruction()
                                                    ? delivering.instruction_length
                                                    : information.instruction_length);
    cpu.delivering.reset();
    cpu.iret_unblocks_nmis = false;
    vmcs.set(field::vm_exit_instruction_information, information.instruction_information);
    vmcs.set(field::guest_linear_address, information.guest_linear_address);
    vmcs.set(field::guest_physical_address, information.guest_physical_address);
    vmcs.set(field::vm_entry_interruption_information,
             vmcs.get(field::vm_entry_interruption_information) & ~rules::EventInformation::valid);
    save_guest_state(cpu, vmcs);
    if (cpu.timer_ends &&
        (vmcs.get(field::vm_exit_controls) & vmx::exit_control::save_vmx_preemption_timer_value) != 0) {
        const std::uint64_t left = *cpu.timer_ends - std::min(timer_now(), *cpu.timer_ends);
        vmcs.set(field::vmx_preemption_timer_value, static_cast<std::uint32_t>(left));
    }
    cpu.timer_ends.reset();
    // RF is saved as 0 where an instruction causes the exit (SDM 3C 28.3.3).
    if (information.instruction_length != 0)
        vmcs.set(field::guest_rflags, vmcs.get(field::guest_rflags) & ~x86::rflags::resume);
    store_msr_list(cpu, vmcs.get(field::vm_exit_msr_store_address), vmcs.get(field::vm_exit_msr_store_count));
    const bool caused_by_nmi =
        information.reason == ExitReason::exception_or_nmi &&
        rules::EventInformation{information.interruption_information}.is(vmx::InterruptionType::nmi);
    const bool nmis_blocked = blocks_nmis_after_exit(cpu, vmcs, caused_by_nmi);
    cpu.in_root = true;
    flush_at_transition(cpu, vmcs);
    load_host_state(cpu, vmcs, nmis_blocked);
    if (load_msr_list(cpu, vmcs.get(field::vm_exit_msr_load_address),
                      vmcs.get(field::vm_exit_msr_load_count)) != 0) {
        throw LimitReached("VMX abort: VM-exit MSR-load list");
    }
    state_changed(number);
    return {.kind = Completion::Kind::vm_exit, .exit_reason = exit_reason};
}

}  // namespace flatback::machine
