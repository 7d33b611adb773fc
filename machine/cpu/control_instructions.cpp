// Control registers, INVLPG, INVPCID, MSRs, OUT and LIDT.
#include <array>
#include <cstring>

#include "machine/cpu/machine.hpp"
#include "machine/rules/address.hpp"
#include "machine/rules/exit_information.hpp"
#include "machine/rules/registers.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/msr_numbers.hpp"
#include "x86/paging_bits.hpp"

namespace flatback::machine {

using vmx::ExitReason;
namespace field = vmx::field;
namespace cr0 = x86::cr0;
namespace cr4 = x86::cr4;

Completion Machine::move_to_control_register(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    if (cpu.registers.privilege_level() != 0) return raise_general_protection(number);
    // Outside of 64-bit mode the operand has 32 bits.
    const std::uint64_t value = cpu.registers.general[instruction.a] &
                                (cpu.registers.in_64_bit_mode() ? ~std::uint64_t{0} : 0xFFFF'FFFF);
    switch (instruction.opcode) {
        case Opcode::mov_to_cr0:
            return move_to_cr0(number, instruction, value);
        case Opcode::mov_to_cr3:
            return move_to_cr3(number, instruction, value);
        default:
            return move_to_cr4(number, instruction, value);
    }
}

Completion Machine::move_from_control_register(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    Registers& registers = cpu.registers;
    if (registers.privilege_level() != 0) return raise_general_protection(number);
    std::uint64_t value = 0;
    if (instruction.opcode == Opcode::mov_from_cr3) {
        if (cpu.in_non_root() && (current(cpu).get(field::primary_processor_based_vm_execution_controls) &
                                  vmx::primary::cr3_store_exiting) != 0) {
            return unconditional_exit(number, instruction, ExitReason::control_register_access,
                                      rules::control_register_qualification(
                                          3, rules::ControlRegisterAccess::mov_from, instruction.a));
        }
        value = registers.cr3;
    } else {
        const bool is_cr0 = instruction.opcode == Opcode::mov_from_cr0;
        value = is_cr0 ? registers.cr0 : registers.cr4;
        if (cpu.in_non_root()) {
            // SDM 3C 26.3: a masked bit reads as the shadow's.
            const Vmcs& vmcs = current(cpu);
            const std::uint64_t mask =
                is_cr0 ? vmcs.get(field::cr0_guest_host_mask) : vmcs.get(field::cr4_guest_host_mask);
            const std::uint64_t shadow =
                is_cr0 ? vmcs.get(field::cr0_read_shadow) : vmcs.get(field::cr4_read_shadow);
            value = (value & ~mask) | (shadow & mask);
        }
    }
    registers.general[instruction.a] = registers.in_64_bit_mode() ? value : value & 0xFFFF'FFFF;
    return done(cpu, instruction.opcode);
}

Machine::Pdptes Machine::pdptes_at(std::uint64_t host_physical) const {
    Pdptes pdptes{};
    for (unsigned index = 0; index < pdptes.size(); ++index)
        pdptes[index] = memory_.read(host_physical + 8 * index);
    return pdptes;
}

bool Machine::are_loadable(const Pdptes& pdptes) const {
    for (const std::uint64_t pdpte : pdptes) {
        if (!rules::is_loadable_pdpte(pdpte, model_.physical_address_bits)) return false;
    }
    return true;
}

/// What a load of CR3 finds at its bits 31:5, into the registers (SDM 3A tables 4-7, 4-8). Something: #GP(0),
/// or an exit, whose qualification has no linear address (SDM 3C table 28-7).
std::optional<Completion> Machine::load_pdptes(unsigned number, std::uint64_t cr3) {
    const std::uint64_t table = cr3 & 0xFFFF'FFE0;
    std::uint64_t host = table;
    if (TranslationContext flat = context(number); flat.ept_in_use) {
        flat.paging = false;
        const Outcome outcome = cpus_[number].tlb->access(memory_, flat, table, {AccessKind::read, false});
        if (outcome.kind == Outcome::Kind::ept_violation) {
            constexpr std::uint64_t of_linear = violation::linear_address_valid |
                                                violation::final_translation | violation::user_mode_address |
                                                violation::writable_address |
                                                violation::execute_disable_address;
            return vm_exit(number, {.reason = ExitReason::ept_violation,
                                    .qualification = outcome.exit_qualification & ~of_linear,
                                    .guest_physical_address = outcome.physical});
        }
        if (!outcome.is_translated()) return outcome_to_completion(number, 0, outcome);
        host = outcome.physical;
    }
    const Pdptes pdptes = pdptes_at(host);
    if (!are_loadable(pdptes)) return raise_general_protection(number);
    cpus_[number].registers.pdptes = pdptes;
    return std::nullopt;
}

Completion Machine::move_to_cr0(unsigned number, const Instruction& instruction, std::uint64_t value) {
    Cpu& cpu = cpus_[number];
    Registers& registers = cpu.registers;
    if (cpu.in_non_root()) {
        const Vmcs& vmcs = current(cpu);
        const std::uint64_t mask = vmcs.get(field::cr0_guest_host_mask);
        if (((value ^ vmcs.get(field::cr0_read_shadow)) & mask) != 0) {
            return unconditional_exit(number, instruction, ExitReason::control_register_access,
                                      rules::control_register_qualification(
                                          0, rules::ControlRegisterAccess::mov_to, instruction.a));
        }
        value = (value & ~mask) | (registers.cr0 & mask);
    }
    // SDM 2B "MOV to/from control registers".
    const std::uint64_t before = registers.cr0;
    if (value >> 32 != 0) return raise_general_protection(number);
    value = (value & rules::cr0_bits) | cr0::extension_type;
    if ((value & cr0::paging) != 0 && (value & cr0::protection_enable) == 0)
        return raise_general_protection(number);
    if ((value & cr0::not_write_through) != 0 && (value & cr0::cache_disable) == 0) {
        return raise_general_protection(number);
    }
    const bool sets_paging = (value & ~before & cr0::paging) != 0;
    const bool clears_paging = (before & ~value & cr0::paging) != 0;
    if (clears_paging && (registers.in_64_bit_mode() || (registers.cr4 & cr4::pcid_enable) != 0)) {
        return raise_general_protection(number);
    }
    const bool enters_long_mode = sets_paging && (registers.efer & x86::efer::long_mode_enable) != 0;
    if (enters_long_mode &&
        ((registers.cr4 & cr4::physical_address_extension) == 0 ||
         x86::AccessRights(registers.segment(SegmentName::cs).access_rights).is_long_mode())) {
        return raise_general_protection(number);
    }
    if (cpu.in_vmx_operation) {
        std::uint64_t exempt = 0;
        if (cpu.in_non_root() &&
            (secondary_controls(current(cpu)) & vmx::secondary::unrestricted_guest) != 0) {
            exempt = cr0::paging | cr0::protection_enable;
        }
        if (!model_.vmx.cr0.permits(value, exempt)) return raise_general_protection(number);
    }
    // SDM 3A 4.4.1: what changes CD, NW or PG loads the PDPTEs of a PAE paging that is in use then.
    constexpr std::uint64_t loading = cr0::cache_disable | cr0::not_write_through | cr0::paging;
    const bool pae = (value & cr0::paging) != 0 && !enters_long_mode && !registers.in_long_mode() &&
                     (registers.cr4 & cr4::physical_address_extension) != 0;
    if (pae && ((value ^ before) & loading) != 0) {
        if (auto failed = load_pdptes(number, registers.cr3)) return *failed;
    }
    registers.cr0 = value;
    if (enters_long_mode) registers.efer |= x86::efer::long_mode_active;
    if (clears_paging) registers.efer &= ~x86::efer::long_mode_active;
    if (clears_paging) cpu.tlb->invalidate(invalidation::everything_of_vpid(current_vpid(cpu)));
    state_changed(number);
    return done(cpu, instruction.opcode);
}

Completion Machine::move_to_cr3(unsigned number, const Instruction& instruction, std::uint64_t value) {
    Cpu& cpu = cpus_[number];
    Registers& registers = cpu.registers;
    const bool pcids = (registers.cr4 & cr4::pcid_enable) != 0;
    if (cpu.in_non_root()) {
        const Vmcs& vmcs = current(cpu);
        if ((vmcs.get(field::primary_processor_based_vm_execution_controls) &
             vmx::primary::cr3_load_exiting) != 0) {
            const std::array targets = {
                vmcs.get(field::cr3_target_value_0), vmcs.get(field::cr3_target_value_1),
                vmcs.get(field::cr3_target_value_2), vmcs.get(field::cr3_target_value_3)};
            bool is_target = false;
            for (std::uint32_t index = 0; index < vmcs.get(field::cr3_target_count); ++index) {
                is_target = is_target || targets[index] == value;
            }
            if (!is_target) {
                return unconditional_exit(number, instruction, ExitReason::control_register_access,
                                          rules::control_register_qualification(
                                              3, rules::ControlRegisterAccess::mov_to, instruction.a));
            }
        }
    }
    const std::uint64_t loaded = pcids ? value & ~x86::cr3::no_flush : value;
    if (!rules::within_width(loaded, model_.physical_address_bits)) return raise_general_protection(number);
    if (registers.uses_pae()) {
        if (auto failed = load_pdptes(number, loaded)) return *failed;
    }
    registers.cr3 = loaded;
    if (!pcids) {
        cpu.tlb->invalidate(invalidation::mov_cr3(current_vpid(cpu), 0));
    } else if ((value & x86::cr3::no_flush) == 0) {
        cpu.tlb->invalidate(invalidation::mov_cr3(current_vpid(cpu),
                                                  static_cast<std::uint16_t>(value & x86::cr3::pcid_mask)));
    }
    state_changed(number);
    return done(cpu, instruction.opcode);
}

Completion Machine::move_to_cr4(unsigned number, const Instruction& instruction, std::uint64_t value) {
    Cpu& cpu = cpus_[number];
    Registers& registers = cpu.registers;
    if (cpu.in_non_root()) {
        const Vmcs& vmcs = current(cpu);
        const std::uint64_t mask = vmcs.get(field::cr4_guest_host_mask);
        if (((value ^ vmcs.get(field::cr4_read_shadow)) & mask) != 0) {
            return unconditional_exit(number, instruction, ExitReason::control_register_access,
                                      rules::control_register_qualification(
                                          4, rules::ControlRegisterAccess::mov_to, instruction.a));
        }
        value = (value & ~mask) | (registers.cr4 & mask);
    }
    const std::uint64_t before = registers.cr4;
    const std::uint64_t changed = before ^ value;
    std::uint64_t supported = model_.vmx.cr4.fixed1;
    if (!model_.pcid) supported &= ~cr4::pcid_enable;
    if (!model_.smep) supported &= ~cr4::smep_enable;
    if (!model_.smap) supported &= ~cr4::smap_enable;
    if ((value & ~supported) != 0) return raise_general_protection(number);
    if (registers.in_long_mode() && (value & cr4::physical_address_extension) == 0) {
        return raise_general_protection(number);
    }
    if ((value & ~before & cr4::pcid_enable) != 0 &&
        (!registers.in_long_mode() || (registers.cr3 & x86::cr3::pcid_mask) != 0)) {
        return raise_general_protection(number);
    }
    if (cpu.in_vmx_operation && !model_.vmx.cr4.permits(value)) return raise_general_protection(number);
    // SDM 3A 4.4.1.
    constexpr std::uint64_t loading = cr4::physical_address_extension | cr4::page_global_enable |
                                      cr4::page_size_extensions | cr4::smep_enable;
    const bool pae = (registers.cr0 & cr0::paging) != 0 && !registers.in_long_mode() &&
                     (value & cr4::physical_address_extension) != 0;
    if (pae && (changed & loading) != 0) {
        if (auto failed = load_pdptes(number, registers.cr3)) return *failed;
    }
    const std::uint16_t vpid = current_vpid(cpu);
    const std::uint16_t pcid = current_pcid(cpu);
    registers.cr4 = value;
    if ((changed & cr4::page_global_enable) != 0 || (changed & before & cr4::pcid_enable) != 0) {
        cpu.tlb->invalidate(invalidation::everything_of_vpid(vpid));
    } else if ((changed & value & cr4::smep_enable) != 0 ||
               (changed & cr4::physical_address_extension) != 0) {
        cpu.tlb->invalidate(invalidation::current_pcid(vpid, pcid));
    }
    state_changed(number);
    return done(cpu, instruction.opcode);
}

Completion Machine::invlpg(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    if (cpu.registers.privilege_level() != 0) return raise_general_protection(number);
    if (cpu.in_non_root() && (current(cpu).get(field::primary_processor_based_vm_execution_controls) &
                              vmx::primary::invlpg_exiting) != 0) {
        return unconditional_exit(number, instruction, ExitReason::invlpg, instruction.address);
    }
    // An address that is not canonical does nothing, not even fault (SDM 2A "INVLPG").
    if (rules::is_canonical(instruction.address)) {
        cpu.tlb->invalidate(invalidation::invlpg(current_vpid(cpu), current_pcid(cpu),
                                                 linear_in(context(number), instruction.address)));
    }
    return done(cpu, instruction.opcode);
}

Completion Machine::invpcid(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    const Registers& registers = cpu.registers;
    if (!model_.invpcid) return raise_invalid_opcode(number);
    if (cpu.in_non_root()) {
        const Vmcs& vmcs = current(cpu);
        if ((secondary_controls(vmcs) & vmx::secondary::enable_invpcid) == 0)
            return raise_invalid_opcode(number);
        if (registers.privilege_level() != 0) return raise_general_protection(number);
        if ((vmcs.get(field::primary_processor_based_vm_execution_controls) & vmx::primary::invlpg_exiting) !=
            0) {
            return unconditional_exit(number, instruction, ExitReason::invpcid, instruction.address,
                                      rules::displacement_information(instruction.b));
        }
    }
    if (registers.privilege_level() != 0) return raise_general_protection(number);
    std::array<std::byte, 16> descriptor{};
    if (auto fault = read_linear(number, instruction.address, descriptor)) return *fault;
    std::array<std::uint64_t, 2> words{};
    std::memcpy(words.data(), descriptor.data(), descriptor.size());
    const std::uint64_t type = registers.general[instruction.b];
    const std::uint16_t pcid = static_cast<std::uint16_t>(words[0] & x86::cr3::pcid_mask);
    if (type > 3 || words[0] >> 12 != 0) return raise_general_protection(number);
    const bool uses_pcid = type == 0 || type == 1;
    if (uses_pcid && pcid != 0 && (registers.cr4 & cr4::pcid_enable) == 0)
        return raise_general_protection(number);
    if (type == 0 && !rules::is_canonical(words[1])) return raise_general_protection(number);
    const std::uint16_t vpid = current_vpid(cpu);
    switch (type) {
        case 0:
            cpu.tlb->invalidate(invalidation::invpcid_address(vpid, pcid, words[1]));
            break;
        case 1:
            cpu.tlb->invalidate(invalidation::invpcid_single_context(vpid, pcid));
            break;
        case 2:
            cpu.tlb->invalidate(invalidation::invpcid_all_contexts(vpid));
            break;
        default:
            cpu.tlb->invalidate(invalidation::invpcid_all_contexts_retaining_globals(vpid));
            break;
    }
    return done(cpu, instruction.opcode);
}

std::optional<std::uint64_t> Machine::msr(const Cpu& cpu, std::uint32_t index) const {
    const Registers& registers = cpu.registers;
    switch (index) {
        case x86::msr::ia32_efer:
            return registers.efer;
        case x86::msr::ia32_pat:
            return registers.pat;
        case x86::msr::ia32_debugctl:
            return registers.debugctl;
        case x86::msr::ia32_sysenter_cs:
            return registers.sysenter_cs;
        case x86::msr::ia32_sysenter_esp:
            return registers.sysenter_esp;
        case x86::msr::ia32_sysenter_eip:
            return registers.sysenter_eip;
        case x86::msr::ia32_fs_base:
            return registers.segment(SegmentName::fs).base;
        case x86::msr::ia32_gs_base:
            return registers.segment(SegmentName::gs).base;
        case x86::msr::ia32_star:
            return registers.star;
        case x86::msr::ia32_lstar:
            return registers.lstar;
        case x86::msr::ia32_fmask:
            return registers.fmask;
        case x86::msr::ia32_kernel_gs_base:
            return registers.kernel_gs_base;
        case x86::msr::ia32_tsc_aux:
            return registers.tsc_aux;
        case x86::msr::ia32_feature_control:
            return registers.feature_control;
        default:
            return model_.vmx.read(index);
    }
}

bool Machine::set_msr(Cpu& cpu, std::uint32_t index, std::uint64_t value) {
    Registers& registers = cpu.registers;
    switch (index) {
        case x86::msr::ia32_efer:
            if ((value & ~rules::efer_bits) != 0) return false;
            if (((value ^ registers.efer) & x86::efer::long_mode_enable) != 0 &&
                (registers.cr0 & cr0::paging) != 0) {
                return false;
            }
            // LMA is read-only.
            registers.efer =
                (value & ~x86::efer::long_mode_active) | (registers.efer & x86::efer::long_mode_active);
            return true;
        case x86::msr::ia32_pat:
            if (!rules::is_page_attribute_table(value)) return false;
            registers.pat = value;
            return true;
        case x86::msr::ia32_debugctl:
            if ((value & ~rules::debugctl_bits) != 0) return false;
            registers.debugctl = value;
            return true;
        case x86::msr::ia32_sysenter_cs:
            // Bits 63:32 are not used (SDM 4 table 2-2), and the VMCS has no room for them.
            registers.sysenter_cs = value & 0xFFFF'FFFF;
            return true;
        case x86::msr::ia32_star:
            registers.star = value;
            return true;
        case x86::msr::ia32_fmask:
            registers.fmask = value;
            return true;
        case x86::msr::ia32_tsc_aux:
            if (value >> 32 != 0) return false;
            registers.tsc_aux = value;
            return true;
        default:
            break;
    }
    std::uint64_t* address = nullptr;
    switch (index) {
        case x86::msr::ia32_sysenter_esp:
            address = &registers.sysenter_esp;
            break;
        case x86::msr::ia32_sysenter_eip:
            address = &registers.sysenter_eip;
            break;
        case x86::msr::ia32_fs_base:
            address = &registers.segment(SegmentName::fs).base;
            break;
        case x86::msr::ia32_gs_base:
            address = &registers.segment(SegmentName::gs).base;
            break;
        case x86::msr::ia32_lstar:
            address = &registers.lstar;
            break;
        case x86::msr::ia32_kernel_gs_base:
            address = &registers.kernel_gs_base;
            break;
        default:
            return false;  // read-only, locked or absent
    }
    if (!rules::is_canonical(value)) return false;
    *address = value;
    return true;
}

bool Machine::msr_exits(Cpu& cpu, std::uint32_t index, bool write) {
    if (!cpu.in_non_root()) return false;
    const Vmcs& vmcs = current(cpu);
    if ((vmcs.get(field::primary_processor_based_vm_execution_controls) & vmx::primary::use_msr_bitmaps) ==
        0) {
        return true;
    }
    // SDM 3C 25.6.9: four bitmaps of 1 KByte: low reads, high reads, low writes, high writes.
    const bool high = index >= 0xC000'0000;
    const std::uint32_t bit = index & 0x1FFF;
    if ((index & ~std::uint32_t{0x1FFF}) != (high ? 0xC000'0000U : 0U)) return true;
    const std::uint64_t byte =
        vmcs.get(field::address_of_msr_bitmaps) + (write ? 2048U : 0U) + (high ? 1024U : 0U) + bit / 8;
    return (memory_.read(byte) >> (8 * (byte & 7) + bit % 8) & 1) != 0;
}

Completion Machine::read_msr(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    Registers& registers = cpu.registers;
    if (registers.privilege_level() != 0) return raise_general_protection(number);
    const auto index = static_cast<std::uint32_t>(registers.general[1]);
    if (msr_exits(cpu, index, false)) return unconditional_exit(number, instruction, ExitReason::rdmsr);
    const std::optional<std::uint64_t> value = msr(cpu, index);
    if (!value) return raise_general_protection(number);
    registers.general[0] = *value & 0xFFFF'FFFF;
    registers.general[2] = *value >> 32;
    return done(cpu, instruction.opcode);
}

Completion Machine::write_msr(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    const Registers& registers = cpu.registers;
    if (registers.privilege_level() != 0) return raise_general_protection(number);
    const auto index = static_cast<std::uint32_t>(registers.general[1]);
    if (msr_exits(cpu, index, true)) return unconditional_exit(number, instruction, ExitReason::wrmsr);
    const std::uint64_t value = (registers.general[2] << 32) | (registers.general[0] & 0xFFFF'FFFF);
    if (!set_msr(cpu, index, value)) return raise_general_protection(number);
    state_changed(number);
    return done(cpu, instruction.opcode);
}

Completion Machine::output(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    const auto port = static_cast<std::uint16_t>(cpu.registers.general[2]);
    if (cpu.in_non_root()) {
        const Vmcs& vmcs = current(cpu);
        const std::uint32_t primary = vmcs.get(field::primary_processor_based_vm_execution_controls);
        bool exits = (primary & vmx::primary::unconditional_io_exiting) != 0;
        if ((primary & vmx::primary::use_io_bitmaps) != 0) {
            const std::uint64_t bitmap = (port & 0x8000) == 0 ? vmcs.get(field::address_of_io_bitmap_a)
                                                              : vmcs.get(field::address_of_io_bitmap_b);
            const std::uint64_t byte = bitmap + (port & 0x7FFFU) / 8;
            exits = (memory_.read(byte) >> (8 * (byte & 7) + port % 8) & 1) != 0;
        }
        if (exits) {
            return unconditional_exit(number, instruction, ExitReason::io_instruction,
                                      rules::output_qualification(port));
        }
    }
    // No device is there.
    return done(cpu, instruction.opcode);
}

Completion Machine::lidt(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    if (cpu.registers.privilege_level() != 0) return raise_general_protection(number);
    if (cpu.in_non_root() &&
        (secondary_controls(current(cpu)) & vmx::secondary::descriptor_table_exiting) != 0) {
        return unconditional_exit(number, instruction, ExitReason::gdtr_or_idtr_access, instruction.address,
                                  rules::descriptor_table_information());
    }
    std::array<std::byte, 10> operand{};
    if (auto fault = read_linear(number, instruction.address, operand)) return *fault;
    std::uint16_t limit = 0;
    std::uint64_t base = 0;
    std::memcpy(&limit, operand.data(), sizeof limit);
    std::memcpy(&base, operand.data() + sizeof limit, sizeof base);
    if (!rules::is_canonical(base)) return raise_general_protection(number);
    cpu.registers.idtr = {base, limit};
    return done(cpu, instruction.opcode);
}

}  // namespace flatback::machine
