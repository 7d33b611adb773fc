// The VMX instructions (SDM 3C chapter 31): checks in the manual's order.
#include <array>
#include <cstdio>
#include <cstring>

#include "machine/cpu/machine.hpp"
#include "machine/rules/address.hpp"
#include "machine/rules/exit_information.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"

namespace flatback::machine {

using vmx::ExitReason;
using vmx::InstructionError;
namespace field = vmx::field;

namespace {

/// What VMsucceed clears and VMfail sets one of (SDM 3C 31.2).
constexpr std::uint64_t arithmetic_flags = x86::rflags::carry | x86::rflags::parity |
                                           x86::rflags::auxiliary_carry | x86::rflags::zero |
                                           x86::rflags::sign | x86::rflags::overflow;

struct ExitOfInstruction {
    ExitReason reason;
    bool has_information;
};

ExitOfInstruction exit_of(Opcode opcode) {
    switch (opcode) {
        case Opcode::vmxon:
            return {ExitReason::vmxon, true};
        case Opcode::vmxoff:
            return {ExitReason::vmxoff, false};
        case Opcode::vmclear:
            return {ExitReason::vmclear, true};
        case Opcode::vmptrld:
            return {ExitReason::vmptrld, true};
        case Opcode::vmptrst:
            return {ExitReason::vmptrst, true};
        case Opcode::vmread:
            return {ExitReason::vmread, true};
        case Opcode::vmwrite:
            return {ExitReason::vmwrite, true};
        case Opcode::vmlaunch:
            return {ExitReason::vmlaunch, false};
        case Opcode::vmresume:
            return {ExitReason::vmresume, false};
        case Opcode::vmcall:
            return {ExitReason::vmcall, false};
        case Opcode::invept:
            return {ExitReason::invept, true};
        case Opcode::invvpid:
            return {ExitReason::invvpid, true};
        default:
            return {ExitReason::vmfunc, false};
    }
}

bool has_memory_operand(Opcode opcode) {
    switch (opcode) {
        case Opcode::vmxon:
        case Opcode::vmclear:
        case Opcode::vmptrld:
        case Opcode::vmptrst:
        case Opcode::invept:
        case Opcode::invvpid:
            return true;
        default:
            return false;
    }
}

/// The instruction-information field: a displacement alone, or registers.
std::uint32_t information_of(const Instruction& instruction) {
    switch (instruction.opcode) {
        case Opcode::vmread:
        case Opcode::vmwrite:
            return rules::two_register_information(instruction.a, instruction.b);
        case Opcode::invept:
        case Opcode::invvpid:
            return rules::displacement_information(instruction.b);
        default:
            return rules::displacement_information();
    }
}

}  // namespace

Completion Machine::vm_succeed(Cpu& cpu, Opcode opcode) {
    cpu.registers.rflags &= ~arithmetic_flags;
    return done(cpu, opcode);
}

Completion Machine::vm_fail_invalid(Cpu& cpu, Opcode opcode) {
    cpu.registers.rflags = (cpu.registers.rflags & ~arithmetic_flags) | x86::rflags::carry;
    return done(cpu, opcode);
}

Completion Machine::vm_fail(unsigned number, Opcode opcode, InstructionError error, const char* check) {
    Cpu& cpu = cpus_[number];
    Completion completion;
    // In non-root operation only VMREAD and VMWRITE of a shadow VMCS get here. The error is the current
    // VMCS's, under which the guest runs (SDM 3C 31.2).
    Vmcs* vmcs = find_vmcs(cpu.current_vmcs);
    if (vmcs == nullptr) {
        completion = vm_fail_invalid(cpu, opcode);
    } else {
        vmcs->set(field::vm_instruction_error, static_cast<std::uint32_t>(error));
        cpu.registers.rflags = (cpu.registers.rflags & ~arithmetic_flags) | x86::rflags::zero;
        completion = done(cpu, opcode);
    }
    completion.failed_check = check;
    return completion;
}

bool Machine::valid_vmx_pointer(std::uint64_t pointer) const {
    if ((pointer & 0xFFF) != 0) return false;
    const unsigned bits =
        (model_.vmx.basic & rules::basic::addresses_of_32_bits) != 0 ? 32 : model_.physical_address_bits;
    return rules::within_width(pointer, bits);
}

Completion Machine::vmx_instruction(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    const Registers& registers = cpu.registers;
    const Opcode opcode = instruction.opcode;

    // #UD comes before everything else (SDM 3C 26.1.1): VMX instructions exist in 64-bit and in protected
    // mode only, and INVEPT and INVVPID only where they are offered.
    const bool compatibility = registers.in_long_mode() && !registers.in_64_bit_mode();
    const bool no_mode = (registers.cr0 & x86::cr0::protection_enable) == 0 ||
                         (registers.rflags & x86::rflags::virtual_8086) != 0 || compatibility;
    if (opcode == Opcode::vmcall) {
        // VMCALL exits from any mode.
        if (!cpu.in_vmx_operation) return raise_invalid_opcode(number);
        if (cpu.in_non_root()) return unconditional_exit(number, instruction, ExitReason::vmcall);
        if (registers.privilege_level() != 0) return raise_general_protection(number);
        return vm_fail(number, opcode, InstructionError::vmcall_in_vmx_root_operation);
    }
    if (opcode == Opcode::vmfunc) return vmfunc(number, instruction);
    if (no_mode) return raise_invalid_opcode(number);
    if (opcode == Opcode::invept && !model_.vmx.has_ept_vpid(rules::ept_vpid::invept))
        return raise_invalid_opcode(number);
    if (opcode == Opcode::invvpid && !model_.vmx.has_ept_vpid(rules::ept_vpid::invvpid))
        return raise_invalid_opcode(number);
    if (opcode == Opcode::vmxon) {
        if ((registers.cr4 & x86::cr4::vmx_enable) == 0) return raise_invalid_opcode(number);
    } else if (!cpu.in_vmx_operation) {
        return raise_invalid_opcode(number);
    }

    if (cpu.in_non_root()) {
        if ((opcode == Opcode::vmread || opcode == Opcode::vmwrite) &&
            shadowed(cpu, registers.general[instruction.b], opcode == Opcode::vmwrite)) {
            if (registers.privilege_level() != 0) return raise_general_protection(number);
            return opcode == Opcode::vmread ? vmread(number, instruction) : vmwrite(number, instruction);
        }
        // In non-root operation the exit comes before the check of CPL only where CPL is 0 (SDM 3C 26.1.1).
        if (registers.privilege_level() != 0) return raise_general_protection(number);
        const ExitOfInstruction exit = exit_of(opcode);
        // The operand's displacement, sign-extended, is the qualification.
        return unconditional_exit(number, instruction, exit.reason,
                                  has_memory_operand(opcode) ? instruction.address : 0,
                                  exit.has_information ? information_of(instruction) : 0);
    }
    if (registers.privilege_level() != 0) return raise_general_protection(number);
    switch (opcode) {
        case Opcode::vmxon:
            return vmxon(number, instruction);
        case Opcode::vmxoff:
            return vmxoff(number, instruction);
        case Opcode::vmclear:
            return vmclear(number, instruction);
        case Opcode::vmptrld:
            return vmptrld(number, instruction);
        case Opcode::vmptrst:
            return vmptrst(number, instruction);
        case Opcode::vmread:
            return vmread(number, instruction);
        case Opcode::vmwrite:
            return vmwrite(number, instruction);
        case Opcode::vmlaunch:
        case Opcode::vmresume:
            return enter(number, instruction);
        case Opcode::invept:
            return invept(number, instruction);
        default:
            return invvpid(number, instruction);
    }
}

Completion Machine::vmxon(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    Registers& registers = cpu.registers;
    if (cpu.in_vmx_operation) {
        return vm_fail(number, instruction.opcode, InstructionError::vmxon_in_vmx_root_operation);
    }
    // IA32_FEATURE_CONTROL: locked, and VMXON allowed outside SMX (SDM 3C 24.7).
    if ((registers.feature_control & 5) != 5 || !model_.vmx.cr0.permits(registers.cr0) ||
        !model_.vmx.cr4.permits(registers.cr4)) {
        return raise_general_protection(number);
    }
    std::uint64_t pointer = 0;
    if (auto fault = read_quadword(number, instruction.address, pointer)) return *fault;
    if (!valid_vmx_pointer(pointer)) return vm_fail_invalid(cpu, instruction.opcode);
    // Bits 30:0 are the revision identifier, bit 31 must be 0.
    if ((memory_.read(pointer) & 0xFFFF'FFFF) != model_.vmx.revision()) {
        return vm_fail_invalid(cpu, instruction.opcode);
    }
    cpu.in_vmx_operation = true;
    cpu.in_root = true;
    cpu.vmxon_pointer = pointer;
    cpu.current_vmcs = Cpu::no_vmcs;
    state_changed(number);
    return vm_succeed(cpu, instruction.opcode);
}

Completion Machine::vmxoff(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    for (const auto& [address, vmcs] : vmcss_) {
        if (vmcs.active_on != static_cast<int>(number)) continue;
        char line[96];
        std::snprintf(line, sizeof line, "VMXOFF on CPU %u while the VMCS at 0x%llx is active", number,
                      static_cast<unsigned long long>(address));
        misuse_.emplace_back(line);
    }
    cpu.in_vmx_operation = false;
    cpu.in_root = false;
    cpu.vmxon_pointer = Cpu::no_vmcs;
    cpu.current_vmcs = Cpu::no_vmcs;
    state_changed(number);
    return vm_succeed(cpu, instruction.opcode);
}

Completion Machine::vmclear(unsigned number, const Instruction& instruction) {
    std::uint64_t pointer = 0;
    if (auto fault = read_quadword(number, instruction.address, pointer)) return *fault;
    if (const auto error = clear_vmcs(number, pointer)) return vm_fail(number, instruction.opcode, *error);
    return vm_succeed(cpus_[number], instruction.opcode);
}

std::optional<InstructionError> Machine::clear_vmcs(unsigned number, std::uint64_t pointer) {
    Cpu& cpu = cpus_[number];
    if (!valid_vmx_pointer(pointer)) return InstructionError::vmclear_with_invalid_physical_address;
    if (pointer == cpu.vmxon_pointer) return InstructionError::vmclear_with_vmxon_pointer;
    Vmcs& vmcs = vmcss_[pointer];
    note_two_processors("VMCLEAR", number, pointer, vmcs);
    vmcs.launch_state = Vmcs::LaunchState::clear;
    vmcs.active_on = Vmcs::inactive;
    if (pointer == cpu.current_vmcs) cpu.current_vmcs = Cpu::no_vmcs;
    return std::nullopt;
}

void Machine::note_two_processors(const char* what, unsigned number, std::uint64_t pointer,
                                  const Vmcs& vmcs) {
    if (vmcs.active_on == Vmcs::inactive || vmcs.active_on == static_cast<int>(number)) return;
    char line[112];
    std::snprintf(line, sizeof line, "%s on CPU %u of the VMCS at 0x%llx, which is active on CPU %d", what,
                  number, static_cast<unsigned long long>(pointer), vmcs.active_on);
    misuse_.emplace_back(line);
}

Completion Machine::vmptrld(unsigned number, const Instruction& instruction) {
    std::uint64_t pointer = 0;
    if (auto fault = read_quadword(number, instruction.address, pointer)) return *fault;
    if (const auto error = load_vmcs(number, pointer)) return vm_fail(number, instruction.opcode, *error);
    return vm_succeed(cpus_[number], instruction.opcode);
}

std::optional<InstructionError> Machine::load_vmcs(unsigned number, std::uint64_t pointer) {
    Cpu& cpu = cpus_[number];
    if (!valid_vmx_pointer(pointer)) return InstructionError::vmptrld_with_invalid_physical_address;
    if (pointer == cpu.vmxon_pointer) return InstructionError::vmptrld_with_vmxon_pointer;
    const std::uint64_t revision = memory_.read(pointer) & 0xFFFF'FFFF;
    const bool shadow = (revision >> 31) != 0;
    const bool may_shadow = model_.vmx.secondary.may_be_1(vmx::secondary::vmcs_shadowing);
    if ((revision & rules::basic::revision_bits) != model_.vmx.revision() || (shadow && !may_shadow)) {
        return InstructionError::vmptrld_with_incorrect_vmcs_revision_identifier;
    }
    Vmcs& vmcs = vmcss_[pointer];
    note_two_processors("VMPTRLD", number, pointer, vmcs);
    vmcs.active_on = static_cast<int>(number);
    cpu.current_vmcs = pointer;
    return std::nullopt;
}

Completion Machine::vmptrst(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    std::array<std::byte, 8> bytes{};
    std::memcpy(bytes.data(), &cpu.current_vmcs, bytes.size());
    if (auto fault = write_linear(number, instruction.address, bytes)) return *fault;
    return vm_succeed(cpu, instruction.opcode);
}

/// SDM 3C 25.10: does this VMREAD or VMWRITE of non-root operation go to the shadow VMCS?
bool Machine::shadowed(Cpu& cpu, std::uint64_t encoding, bool write) {
    const Vmcs& vmcs = current(cpu);
    if ((secondary_controls(vmcs) & vmx::secondary::vmcs_shadowing) == 0) return false;
    if (encoding >> 15 != 0) return false;
    const std::uint64_t bitmap =
        write ? vmcs.get(field::vmwrite_bitmap_address) : vmcs.get(field::vmread_bitmap_address);
    const std::uint64_t byte = bitmap + encoding / 8;
    return (memory_.read(byte) >> (8 * (byte & 7) + encoding % 8) & 1) == 0;
}

Completion Machine::vmread(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    std::uint64_t pointer = cpu.current_vmcs;
    if (cpu.in_non_root()) pointer = current(cpu).get(field::vmcs_link_pointer);
    // One that the link pointer names became active with VM entry (SDM 3C 25.10).
    const Vmcs* vmcs = pointer == Cpu::no_vmcs ? nullptr : &vmcss_[pointer];
    if (vmcs == nullptr) return vm_fail_invalid(cpu, instruction.opcode);
    const std::uint64_t encoding = cpu.registers.general[instruction.b];
    if (!model_.has_field(encoding)) {
        return vm_fail(number, instruction.opcode,
                       InstructionError::vmread_vmwrite_with_unsupported_vmcs_component);
    }
    cpu.registers.general[instruction.a] = vmcs->read(encoding);
    return vm_succeed(cpu, instruction.opcode);
}

Completion Machine::vmwrite(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    std::uint64_t pointer = cpu.current_vmcs;
    if (cpu.in_non_root()) pointer = current(cpu).get(field::vmcs_link_pointer);
    Vmcs* vmcs = pointer == Cpu::no_vmcs ? nullptr : &vmcss_[pointer];
    if (vmcs == nullptr) return vm_fail_invalid(cpu, instruction.opcode);
    const std::uint64_t encoding = cpu.registers.general[instruction.b];
    if (!model_.has_field(encoding)) {
        return vm_fail(number, instruction.opcode,
                       InstructionError::vmread_vmwrite_with_unsupported_vmcs_component);
    }
    if (vmx::kind(encoding) == vmx::FieldKind::exit_information &&
        !model_.vmx.has_misc(rules::misc::vmwrite_any_field)) {
        return vm_fail(number, instruction.opcode, InstructionError::vmwrite_to_read_only_vmcs_component);
    }
    vmcs->write(encoding, cpu.registers.general[instruction.a]);
    return vm_succeed(cpu, instruction.opcode);
}

Completion Machine::enter(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    if (cpu.current_vmcs == Cpu::no_vmcs) return vm_fail_invalid(cpu, instruction.opcode);
    // A shadow VMCS can't be entered by (SDM 3C 31.3 "VMLAUNCH/VMRESUME").
    if ((memory_.read(cpu.current_vmcs) >> 31 & 1) != 0) return vm_fail_invalid(cpu, instruction.opcode);
    if ((cpu.registers.interruptibility & vmx::interruptibility::blocking_by_mov_ss) != 0) {
        return vm_fail(number, instruction.opcode, InstructionError::entry_with_events_blocked_by_mov_ss);
    }
    const bool launched = current(cpu).launch_state == Vmcs::LaunchState::launched;
    if (instruction.opcode == Opcode::vmlaunch && launched) {
        return vm_fail(number, instruction.opcode, InstructionError::vmlaunch_with_non_clear_vmcs);
    }
    if (instruction.opcode == Opcode::vmresume && !launched) {
        return vm_fail(number, instruction.opcode, InstructionError::vmresume_with_non_launched_vmcs);
    }
    return vm_entry(number, instruction.opcode);
}

Completion Machine::vmfunc(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    if (!cpu.in_non_root()) return raise_invalid_opcode(number);
    Vmcs& vmcs = current(cpu);
    if ((secondary_controls(vmcs) & vmx::secondary::enable_vm_functions) == 0)
        return raise_invalid_opcode(number);
    const auto function = static_cast<std::uint32_t>(cpu.registers.general[0]);
    const auto index = static_cast<std::uint32_t>(cpu.registers.general[1]);
    const bool enabled = function < 64 && (vmcs.get(field::vm_function_controls) >> function & 1) != 0;
    // SDM 3C 26.5.6.3: EPTP switching exits for an index past the list and for an EPTP that VM entry would
    // refuse.
    if (!enabled || function != 0 || index >= 512) {
        return unconditional_exit(number, instruction, ExitReason::vmfunc);
    }
    const std::uint64_t eptp = memory_.read(vmcs.get(field::eptp_list_address) + 8 * std::uint64_t{index});
    if (!model_.vmx.is_eptp(eptp, model_.physical_address_bits)) {
        return unconditional_exit(number, instruction, ExitReason::vmfunc);
    }
    vmcs.set(field::ept_pointer, eptp);
    state_changed(number);
    return done(cpu, instruction.opcode);
}

Completion Machine::invept(unsigned number, const Instruction& instruction) {
    const std::uint64_t type = cpus_[number].registers.general[instruction.b];
    if (!model_.vmx.has_invept_type(type)) {
        return vm_fail(number, instruction.opcode, InstructionError::invalid_operand_to_invept_invvpid);
    }
    std::array<std::byte, 16> bytes{};
    if (auto fault = read_linear(number, instruction.address, bytes)) return *fault;
    Descriptor descriptor{};
    std::memcpy(descriptor.data(), bytes.data(), bytes.size());
    if (const auto error = invalidate_ept(number, type, descriptor))
        return vm_fail(number, instruction.opcode, *error);
    return vm_succeed(cpus_[number], instruction.opcode);
}

std::optional<InstructionError> Machine::invalidate_ept(unsigned number, std::uint64_t type,
                                                        const Descriptor& descriptor) {
    constexpr InstructionError error = InstructionError::invalid_operand_to_invept_invvpid;
    if (!model_.vmx.has_invept_type(type)) return error;
    if (type == 2) {
        cpus_[number].tlb->invalidate(invalidation::invept_all_contexts());
        return std::nullopt;
    }
    if (!model_.vmx.is_eptp(descriptor[0], model_.physical_address_bits)) return error;
    cpus_[number].tlb->invalidate(invalidation::invept_single_context(ep4ta_of(descriptor[0])));
    return std::nullopt;
}

Completion Machine::invvpid(unsigned number, const Instruction& instruction) {
    const std::uint64_t type = cpus_[number].registers.general[instruction.b];
    if (!model_.vmx.has_invvpid_type(type)) {
        return vm_fail(number, instruction.opcode, InstructionError::invalid_operand_to_invept_invvpid);
    }
    std::array<std::byte, 16> bytes{};
    if (auto fault = read_linear(number, instruction.address, bytes)) return *fault;
    Descriptor descriptor{};
    std::memcpy(descriptor.data(), bytes.data(), bytes.size());
    if (const auto error = invalidate_vpid(number, type, descriptor)) {
        return vm_fail(number, instruction.opcode, *error);
    }
    return vm_succeed(cpus_[number], instruction.opcode);
}

std::optional<InstructionError> Machine::invalidate_vpid(unsigned number, std::uint64_t type,
                                                         const Descriptor& descriptor) {
    constexpr InstructionError error = InstructionError::invalid_operand_to_invept_invvpid;
    if (!model_.vmx.has_invvpid_type(type)) return error;
    const auto vpid = static_cast<std::uint16_t>(descriptor[0]);
    if (descriptor[0] >> 16 != 0) return error;
    if (type != 2 && vpid == 0) return error;
    if (type == 0 && !rules::is_canonical(descriptor[1])) return error;
    Tlb& tlb = *cpus_[number].tlb;
    switch (type) {
        case 0:
            tlb.invalidate(invalidation::invvpid_address(vpid, descriptor[1]));
            break;
        case 1:
            tlb.invalidate(invalidation::invvpid_single_context(vpid));
            break;
        case 2:
            tlb.invalidate(invalidation::invvpid_all_contexts());
            break;
        default:
            tlb.invalidate(invalidation::invvpid_single_context_retaining_globals(vpid));
            break;
    }
    return std::nullopt;
}

void Machine::start_vmx_operation(unsigned number, std::uint64_t vmxon_region) {
    Cpu& cpu = cpus_[number];
    cpu.registers.cr4 |= x86::cr4::vmx_enable;
    cpu.in_vmx_operation = true;
    cpu.in_root = true;
    cpu.vmxon_pointer = vmxon_region;
    cpu.current_vmcs = Cpu::no_vmcs;
    state_changed(number);
}

Completion Machine::enter_guest(unsigned number, bool launch) {
    return enter(number, {.opcode = launch ? Opcode::vmlaunch : Opcode::vmresume});
}

Completion Machine::take_from_guest(unsigned number) {
    return vm_exit(number, {.reason = ExitReason::external_interrupt});
}

}  // namespace flatback::machine
