// The common part of every instruction: which of them exit whatever their operands, and how exceptions come
// about.
#include "machine/cpu/machine.hpp"
#include "machine/rules/event.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"

namespace flatback::machine {

using vmx::ExitReason;
namespace field = vmx::field;

namespace {

namespace block = vmx::interruptibility;

/// STI blocks where RFLAGS.IF was 0, MOV SS always, for one instruction: of several in a row only the first
/// (SDM 2B "STI", "MOV").
void block_after(Registers& registers, Opcode opcode, std::uint32_t before) {
    const bool was_blocked = (before & (block::blocking_by_sti | block::blocking_by_mov_ss)) != 0;
    if (opcode == Opcode::sti) {
        if ((registers.rflags & x86::rflags::interrupt_enable) == 0 && !was_blocked)
            registers.interruptibility |= block::blocking_by_sti;
        registers.rflags |= x86::rflags::interrupt_enable;
    }
    if (opcode == Opcode::mov_to_ss && !was_blocked) registers.interruptibility |= block::blocking_by_mov_ss;
}

/// Of CPUID's leaves only the bits are modelled that tell of VMX and of CR4 (SDM 2A "CPUID"); the rest is
/// zero.
void execute_cpuid(Registers& registers, const ProcessorModel& model) {
    constexpr std::uint64_t vmx = 1U << 5;
    constexpr std::uint64_t os_uses_xsave = 1U << 27;
    constexpr std::uint64_t hypervisor = 1U << 31;
    constexpr std::uint64_t os_uses_protection_keys = 1U << 4;
    const auto leaf = static_cast<std::uint32_t>(registers.general[0]);
    const auto subleaf = static_cast<std::uint32_t>(registers.general[1]);
    std::uint64_t rcx = 0;
    if (leaf == 1) {
        rcx = vmx | (model.under_hypervisor ? hypervisor : 0) |
              ((registers.cr4 & x86::cr4::xsave_enable) != 0 ? os_uses_xsave : 0);
    } else if (leaf == 7 && subleaf == 0 && (registers.cr4 & x86::cr4::protection_key_enable) != 0) {
        rcx = os_uses_protection_keys;
    }
    for (const unsigned index : {0U, 1U, 2U, 3U}) registers.general[index] = index == 1 ? rcx : 0;
}

}  // namespace

Completion Machine::execute(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    const bool active = cpu.registers.activity == vmx::ActivityState::active;
    if (active && instruction.opcode == Opcode::prefetch) return memory_access(number, instruction);
    // A window wakes a processor that is halted, as the event would that it tells of (SDM 3C 26.2).
    const std::optional<ExitReason> due = due_exit(cpu);
    tsc_ += instruction_ticks_;
    if (due) return vm_exit(number, {.reason = *due});
    if (!active) return {.kind = Completion::Kind::idle};
    Completion completion = dispatch(number, instruction);
    // RF lasts for one instruction (SDM 3B 18.3.1.1), and so does blocking by STI and by MOV SS: until the
    // next instruction is done, or delivery of its exception begins.
    if (completion.kind == Completion::Kind::done || completion.kind == Completion::Kind::event) {
        // That which IRETQ has popped is for the next.
        if (completion.kind == Completion::Kind::done && instruction.opcode != Opcode::iretq)
            cpu.registers.rflags &= ~x86::rflags::resume;
        const std::uint32_t before = cpu.registers.interruptibility;
        cpu.registers.interruptibility &= ~(block::blocking_by_sti | block::blocking_by_mov_ss);
        if (completion.kind == Completion::Kind::done) block_after(cpu.registers, instruction.opcode, before);
    }
    return completion;
}

/// Exits that come before an instruction and that nothing from outside causes: the VMX-preemption timer,
/// which nothing blocks and which comes before all else (SDM 3C 26.2, 26.5.1, 27.7.4), and the windows.
std::optional<ExitReason> Machine::due_exit(const Cpu& cpu) const {
    const vmx::ActivityState activity = cpu.registers.activity;
    if (!cpu.in_non_root()) return std::nullopt;
    if (cpu.timer_ends && *cpu.timer_ends <= timer_now() && activity != vmx::ActivityState::wait_for_sipi)
        return ExitReason::vmx_preemption_timer_expired;
    if (activity != vmx::ActivityState::active && activity != vmx::ActivityState::hlt) return std::nullopt;
    const std::uint32_t primary = current(cpu).get(field::primary_processor_based_vm_execution_controls);
    const std::uint32_t blocking = cpu.registers.interruptibility;
    if ((primary & vmx::primary::nmi_window_exiting) != 0 &&
        (blocking & (block::blocking_by_nmi | block::blocking_by_mov_ss)) == 0) {
        return ExitReason::nmi_window;
    }
    if ((primary & vmx::primary::interrupt_window_exiting) != 0 &&
        (cpu.registers.rflags & x86::rflags::interrupt_enable) != 0 &&
        (blocking & (block::blocking_by_sti | block::blocking_by_mov_ss)) == 0) {
        return ExitReason::interrupt_window;
    }
    return std::nullopt;
}

/// As the software that runs reads it (SDM 3C 26.3): in VMX non-root operation multiplied, then with the
/// offset; without the offset's control it is not multiplied either.
std::uint64_t Machine::tsc_of(const Cpu& cpu) const {
    if (!cpu.in_non_root()) return tsc_;
    const Vmcs& vmcs = current(cpu);
    if ((vmcs.get(field::primary_processor_based_vm_execution_controls) & vmx::primary::use_tsc_offsetting) ==
        0)
        return tsc_;
    std::uint64_t tsc = tsc_;
    if ((secondary_controls(vmcs) & vmx::secondary::use_tsc_scaling) != 0) {
        // The middle 64 bits of a product of 128 with its lowest 48 left out, from four of 64.
        const std::uint64_t multiplier = vmcs.get(field::tsc_multiplier);
        constexpr std::uint64_t low_half = 0xFFFF'FFFF;
        const std::uint64_t low = (tsc & low_half) * (multiplier & low_half);
        const std::uint64_t cross = (tsc >> 32) * (multiplier & low_half) + (low >> 32);
        const std::uint64_t other = (tsc & low_half) * (multiplier >> 32) + (cross & low_half);
        const std::uint64_t high = (tsc >> 32) * (multiplier >> 32) + (cross >> 32) + (other >> 32);
        tsc = high << 16 | (other & low_half) >> 16;
    }
    return tsc + vmcs.get(field::tsc_offset);
}

Completion Machine::done(Cpu& cpu, Opcode opcode) {
    cpu.registers.rip += instruction_length(opcode);
    return {};
}

Completion Machine::unconditional_exit(unsigned cpu, const Instruction& instruction, ExitReason reason,
                                       std::uint64_t qualification, std::uint32_t information) {
    return vm_exit(cpu, {.reason = reason,
                         .qualification = qualification,
                         .instruction_length = instruction_length(instruction.opcode),
                         .instruction_information = information});
}

Completion Machine::dispatch(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    Registers& registers = cpu.registers;
    const std::uint32_t primary =
        cpu.in_non_root() ? current(cpu).get(field::primary_processor_based_vm_execution_controls) : 0;
    switch (instruction.opcode) {
        case Opcode::nop:
            return done(cpu, instruction.opcode);
        case Opcode::load:
        case Opcode::store:
        case Opcode::fetch:
        case Opcode::prefetch:
            return memory_access(number, instruction);
        case Opcode::mov_to_cr0:
        case Opcode::mov_to_cr3:
        case Opcode::mov_to_cr4:
            return move_to_control_register(number, instruction);
        case Opcode::mov_from_cr0:
        case Opcode::mov_from_cr3:
        case Opcode::mov_from_cr4:
            return move_from_control_register(number, instruction);
        case Opcode::invlpg:
            return invlpg(number, instruction);
        case Opcode::invpcid:
            return invpcid(number, instruction);
        case Opcode::cpuid:
            if (cpu.in_non_root()) return unconditional_exit(number, instruction, ExitReason::cpuid);
            execute_cpuid(registers, model_);
            return done(cpu, instruction.opcode);
        case Opcode::hlt:
            if (registers.privilege_level() != 0) return raise_general_protection(number);
            if ((primary & vmx::primary::hlt_exiting) != 0) {
                return unconditional_exit(number, instruction, ExitReason::hlt);
            }
            registers.rip += instruction_length(instruction.opcode);
            registers.activity = vmx::ActivityState::hlt;
            return {};
        case Opcode::pause:
            if ((primary & vmx::primary::pause_exiting) != 0) {
                return unconditional_exit(number, instruction, ExitReason::pause);
            }
            return done(cpu, instruction.opcode);
        case Opcode::rdtsc:
            if (registers.privilege_level() != 0 && (registers.cr4 & x86::cr4::time_stamp_disable) != 0) {
                return raise_general_protection(number);
            }
            if ((primary & vmx::primary::rdtsc_exiting) != 0) {
                return unconditional_exit(number, instruction, ExitReason::rdtsc);
            }
            {
                const std::uint64_t tsc = tsc_of(cpu);
                registers.general[0] = tsc & 0xFFFF'FFFF;
                registers.general[2] = tsc >> 32;
            }
            return done(cpu, instruction.opcode);
        case Opcode::rdmsr:
            return read_msr(number, instruction);
        case Opcode::wrmsr:
            return write_msr(number, instruction);
        case Opcode::out:
            return output(number, instruction);
        case Opcode::sti:
        case Opcode::mov_to_ss:
            // What they block begins when they are done.
            return done(cpu, instruction.opcode);
        case Opcode::cli:
            registers.rflags &= ~x86::rflags::interrupt_enable;
            return done(cpu, instruction.opcode);
        case Opcode::iret:
            return iret(number, instruction);
        case Opcode::iretq:
            return iretq(number);
        case Opcode::int_n:
            return software_interrupt(number, instruction);
        case Opcode::ud2:
            return raise_invalid_opcode(number);
        case Opcode::lidt:
            return lidt(number, instruction);
        case Opcode::wbinvd:
            if (registers.privilege_level() != 0) return raise_general_protection(number);
            if (cpu.in_non_root() &&
                (secondary_controls(current(cpu)) & vmx::secondary::wbinvd_exiting) != 0) {
                return unconditional_exit(number, instruction, ExitReason::wbinvd_or_wbnoinvd);
            }
            return done(cpu, instruction.opcode);
        case Opcode::vmxon:
        case Opcode::vmxoff:
        case Opcode::vmclear:
        case Opcode::vmptrld:
        case Opcode::vmptrst:
        case Opcode::vmread:
        case Opcode::vmwrite:
        case Opcode::vmlaunch:
        case Opcode::vmresume:
        case Opcode::vmcall:
        case Opcode::vmfunc:
        case Opcode::invept:
        case Opcode::invvpid:
            return vmx_instruction(number, instruction);
    }
    return {};
}

bool Machine::can_take_nmi(unsigned number) const {
    const Cpu& cpu = cpus_[number];
    const vmx::ActivityState activity = cpu.registers.activity;
    if (activity != vmx::ActivityState::active && activity != vmx::ActivityState::hlt) return false;
    // The exits by the timer and for its window come before it (SDM 3C 26.2, 27.7.4).
    const std::optional<ExitReason> due = due_exit(cpu);
    if (due && *due != ExitReason::interrupt_window) return false;
    std::uint32_t blocking = block::blocking_by_sti | block::blocking_by_mov_ss | block::blocking_by_nmi;
    // With virtual NMIs the bit is of those alone.
    if (cpu.in_non_root() &&
        (current(cpu).get(field::pin_based_vm_execution_controls) & vmx::pin::virtual_nmis) != 0) {
        blocking &= ~block::blocking_by_nmi;
    }
    return (cpu.registers.interruptibility & blocking) == 0;
}

Completion Machine::take_nmi(unsigned number) {
    Cpu& cpu = cpus_[number];
    if (cpu.in_non_root() &&
        (current(cpu).get(field::pin_based_vm_execution_controls) & vmx::pin::nmi_exiting) != 0) {
        return vm_exit(number, {.reason = ExitReason::exception_or_nmi,
                                .interruption_information = rules::EventInformation::nmi().value});
    }
    return deliver_from_outside(number, {.information = rules::EventInformation::nmi()});
}

bool Machine::can_take_interrupt(unsigned number) const {
    const Cpu& cpu = cpus_[number];
    const Registers& registers = cpu.registers;
    if (registers.activity != vmx::ActivityState::active && registers.activity != vmx::ActivityState::hlt)
        return false;
    if ((registers.interruptibility & (block::blocking_by_sti | block::blocking_by_mov_ss)) != 0)
        return false;
    if (due_exit(cpu)) return false;
    // Where external interrupts exit RFLAGS.IF does not matter (SDM 3C 26.3).
    return interrupts_exit(cpu) || (registers.rflags & x86::rflags::interrupt_enable) != 0;
}

bool Machine::interrupts_exit(const Cpu& cpu) const {
    return cpu.in_non_root() && (current(cpu).get(field::pin_based_vm_execution_controls) &
                                 vmx::pin::external_interrupt_exiting) != 0;
}

Completion Machine::take_interrupt(unsigned number, LocalApic& apic) {
    Cpu& cpu = cpus_[number];
    if (interrupts_exit(cpu)) {
        // Without the control the interrupt controller keeps it (SDM 3C 28.2.2).
        const bool acknowledges = (current(cpu).get(field::vm_exit_controls) &
                                   vmx::exit_control::acknowledge_interrupt_on_exit) != 0;
        const std::uint32_t information =
            acknowledges ? rules::EventInformation::external_interrupt(apic.acknowledge()).value : 0;
        return vm_exit(number,
                       {.reason = ExitReason::external_interrupt, .interruption_information = information});
    }
    return deliver_from_outside(
        number, {.information = rules::EventInformation::external_interrupt(apic.acknowledge())});
}

bool Machine::can_take_init(unsigned number) const {
    const Cpu& cpu = cpus_[number];
    if (!cpu.in_vmx_operation) return true;
    return !cpu.in_root && !waits_for_start_up(number);
}

Completion Machine::take_init(unsigned number) {
    Cpu& cpu = cpus_[number];
    if (cpu.in_non_root()) return vm_exit(number, {.reason = ExitReason::init_signal});
    cpu.registers = registers_after_init(cpu.registers);
    state_changed(number);
    return {.kind = Completion::Kind::idle};
}

Completion Machine::take_start_up(unsigned number, std::uint8_t vector) {
    Cpu& cpu = cpus_[number];
    if (cpu.in_non_root())
        return vm_exit(number, {.reason = ExitReason::startup_ipi, .qualification = vector});
    // SDM 3A 10.4.4.1: real-address mode, at the beginning of that page.
    Segment& code = cpu.registers.segment(SegmentName::cs);
    code.selector = static_cast<std::uint16_t>(vector << 8);
    code.base = std::uint64_t{vector} << 12;
    cpu.registers.rip = 0;
    cpu.registers.activity = vmx::ActivityState::active;
    state_changed(number);
    return {.kind = Completion::Kind::idle};
}

/// SDM 3C 26.3: IRET ends blocking by NMI, but not where NMIs exit; there it ends that of virtual NMIs, if
/// they are in use. It does so even if it faults.
void Machine::begin_iret(Cpu& cpu) const {
    bool unblocks = true;
    if (cpu.in_non_root()) {
        const std::uint32_t pin = current(cpu).get(field::pin_based_vm_execution_controls);
        unblocks = (pin & vmx::pin::nmi_exiting) == 0 || (pin & vmx::pin::virtual_nmis) != 0;
    }
    if (!unblocks) return;
    cpu.iret_unblocks_nmis = (cpu.registers.interruptibility & block::blocking_by_nmi) != 0;
    cpu.registers.interruptibility &= ~block::blocking_by_nmi;
}

/// INT n, which neither RFLAGS.IF nor an exception bitmap keeps out.
Completion Machine::software_interrupt(unsigned number, const Instruction& instruction) {
    const rules::EventInformation information{rules::EventInformation::valid | 4U << 8 |
                                              static_cast<std::uint8_t>(instruction.address)};
    return deliver(
        number, {.information = information, .instruction_length = instruction_length(instruction.opcode)});
}

Completion Machine::iret(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    begin_iret(cpu);
    std::uint64_t frame = 0;
    const std::optional<Completion> fault = read_quadword(number, instruction.address, frame);
    cpu.iret_unblocks_nmis = false;
    return fault ? *fault : done(cpu, instruction.opcode);
}

}  // namespace flatback::machine
