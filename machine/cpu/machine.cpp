#include "machine/cpu/machine.hpp"

#include "machine/error.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"
#include "x86/paging_bits.hpp"

namespace flatback::machine {

Machine::Machine(const Options& options)
    : model_(options.model),
      tsc_(options.tsc),
      memory_([&] {
          PhysicalMemory::Options memory = options.memory;
          memory.address_bits = options.model.physical_address_bits;
          return memory;
      }()),
      cpus_(options.cpus),
      contexts_(options.cpus) {
    for (Cpu& cpu : cpus_) {
        cpu.tlb = options.make_tlb ? options.make_tlb() : std::make_unique<RetentiveTlb>(options.retentive);
        cpu.registers = kernel_registers(0);
    }
}

const Vmcs* Machine::find_vmcs(std::uint64_t address) const {
    const auto found = vmcss_.find(address);
    return found == vmcss_.end() ? nullptr : &found->second;
}

Vmcs* Machine::find_vmcs(std::uint64_t address) {
    const auto found = vmcss_.find(address);
    return found == vmcss_.end() ? nullptr : &found->second;
}

Vmcs* Machine::current_vmcs(unsigned cpu) {
    return cpus_[cpu].current_vmcs == Cpu::no_vmcs ? nullptr : find_vmcs(cpus_[cpu].current_vmcs);
}

const Vmcs& Machine::current(const Cpu& cpu) const {
    return cpu.found_pointer == cpu.current_vmcs ? *cpu.found_vmcs : vmcss_.at(cpu.current_vmcs);
}

Vmcs& Machine::current(const Cpu& cpu) {
    if (cpu.found_pointer != cpu.current_vmcs) {
        cpu.found_vmcs = &vmcss_.at(cpu.current_vmcs);
        cpu.found_pointer = cpu.current_vmcs;
    }
    return *cpu.found_vmcs;
}

void Machine::reset(unsigned number) {
    Cpu& cpu = cpus_[number];
    cpu.tlb->reset();
    cpu.registers = kernel_registers(0);
    cpu.in_vmx_operation = false;
    cpu.in_root = false;
    cpu.vmxon_pointer = Cpu::no_vmcs;
    cpu.current_vmcs = Cpu::no_vmcs;
    cpu.timer_ends.reset();
    for (auto& [address, vmcs] : vmcss_) {
        if (vmcs.active_on == static_cast<int>(number)) vmcs.active_on = Vmcs::inactive;
    }
    state_changed(number);
}

std::uint32_t Machine::secondary_controls(const Vmcs& vmcs) {
    using namespace vmx;
    const bool active = (vmcs.get(field::primary_processor_based_vm_execution_controls) &
                         primary::activate_secondary_controls) != 0;
    return active ? vmcs.get(field::secondary_processor_based_vm_execution_controls) : 0;
}

std::uint16_t Machine::current_vpid(const Cpu& cpu) const {
    if (!cpu.in_non_root()) return 0;
    const Vmcs& vmcs = current(cpu);
    return (secondary_controls(vmcs) & vmx::secondary::enable_vpid) != 0
               ? vmcs.get(vmx::field::virtual_processor_identifier)
               : std::uint16_t{0};
}

std::uint16_t Machine::current_pcid(const Cpu& cpu) {
    if ((cpu.registers.cr4 & x86::cr4::pcid_enable) == 0) return 0;
    return static_cast<std::uint16_t>(cpu.registers.cr3 & x86::cr3::pcid_mask);
}

TranslationContext Machine::make_context(const Cpu& cpu) const {
    const Registers& registers = cpu.registers;
    TranslationContext result;
    result.physical_address_bits = static_cast<std::uint8_t>(model_.physical_address_bits);
    result.pages_of_1g_supported = model_.pages_of_1g;
    result.paging = (registers.cr0 & x86::cr0::paging) != 0;
    result.write_protect = (registers.cr0 & x86::cr0::write_protect) != 0;
    result.page_global = (registers.cr4 & x86::cr4::page_global_enable) != 0;
    result.execute_disable = (registers.efer & x86::efer::execute_disable_enable) != 0;
    result.supervisor_no_execute_user = (registers.cr4 & x86::cr4::smep_enable) != 0;
    result.supervisor_no_access_user = (registers.cr4 & x86::cr4::smap_enable) != 0 &&
                                       (registers.rflags & x86::rflags::alignment_check) == 0;
    result.pml4 = registers.cr3 & x86::cr3::address_mask;
    if (result.paging && !registers.in_long_mode()) [[unlikely]] {
        result.mode = registers.uses_pae() ? PagingMode::pae : PagingMode::bits_32;
        if (result.mode == PagingMode::pae) {
            result.pdptes = registers.pdptes;
        } else {
            result.execute_disable = false;
            result.page_size_extensions = (registers.cr4 & x86::cr4::page_size_extensions) != 0;
            result.pml4 &= 0xFFFF'FFFF;
        }
    }
    result.vpid = current_vpid(cpu);
    result.pcid = current_pcid(cpu);
    if (cpu.in_non_root()) {
        const Vmcs& vmcs = current(cpu);
        result.ept_in_use = (secondary_controls(vmcs) & vmx::secondary::enable_ept) != 0;
        if (result.ept_in_use) {
            const rules::Capabilities& has = model_.vmx;
            result.ept = {vmcs.get(vmx::field::ept_pointer), has.has_ept_vpid(rules::ept_vpid::execute_only),
                          has.has_ept_vpid(rules::ept_vpid::pages_of_1g),
                          has.has_ept_vpid(rules::ept_vpid::advanced_exit_information)};
        }
    }
    return result;
}

const TranslationContext& Machine::context(unsigned cpu) const {
    std::optional<TranslationContext>& cached = contexts_[cpu];
    if (!cached) cached = make_context(cpus_[cpu]);
    return *cached;
}

TranslationContext Machine::translation_context(unsigned cpu) const {
    return make_context(cpus_[cpu]);
}

RetentiveTlb& Machine::retentive_tlb(unsigned cpu) {
    return dynamic_cast<RetentiveTlb&>(*cpus_[cpu].tlb);
}
const RetentiveTlb& Machine::retentive_tlb(unsigned cpu) const {
    return dynamic_cast<const RetentiveTlb&>(*cpus_[cpu].tlb);
}

PermittedOutcomes Machine::permitted(unsigned cpu, std::uint64_t linear_address, Access access) const {
    const TranslationContext now = make_context(cpus_[cpu]);
    return retentive_tlb(cpu).permitted(memory_, now, linear_in(now, linear_address), access);
}

}  // namespace flatback::machine
