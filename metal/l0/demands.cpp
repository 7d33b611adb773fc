#include "metal/l0/demands.hpp"

#include "metal/ground/log.hpp"
#include "metal/ground/panic.hpp"
#include "metal/ground/this_processor.hpp"
#include "metal/ground/vmx_instructions.hpp"
#include "metal/l0/exit_handler.hpp"
#include "metal/l0/l1_exits.hpp"
#include "vmx/controls.hpp"
#include "vmx/interruption.hpp"

namespace flatback::metal {

namespace {

namespace field = vmx::field;

// So little that a deadline of L1's local APIC, which is told by the processor's counter, is late by nothing
// that L1 would notice.
constexpr std::uint64_t tsc_offset = 4096;

// L2's exits that L0 has asked for: interrupts alone. The processor has acknowledged it, and whose it is L1's
// controls say.
nested::Entry take_interrupt(Cpu& cpu) {
    const vmx::InterruptionInformation interrupt{get(field::vm_exit_interruption_information)};
    if (!interrupt.is_valid()) panic("an interrupt that the processor did not acknowledge");
    cpu.port.waiting().add(nested::Event::interrupt(interrupt.vector()));
    set_nmi_state(nmi_state::asked);
    return cpu.vcpu.resume();
}

nested::Entry handle_exit_with_demands(ExitFrame& frame) {
    Cpu& cpu = *frame.cpu;
    const std::uint32_t reason = get(field::exit_reason);
    if (!cpu.vcpu.in_l2()) return handle_l1_exit(cpu, reason);
    const nested::Entry entry = cpu.vcpu.handle_l2_exit(reason);
    if (entry == nested::Entry::the_hosts) [[unlikely]]
        return take_interrupt(cpu);
    return entry;
}

}  // namespace

void set_up_demands(Cpu& cpu) {
    const nested::Demands demands{
        .external_interrupts = true, .acknowledge_interrupts = true, .tsc_offset = tsc_offset};
    if (!cpu.vcpu.set_demands(demands)) refuse("this processor cannot do what demands=on asks for");
    put(field::primary_processor_based_vm_execution_controls,
        get(field::primary_processor_based_vm_execution_controls) | vmx::primary::use_tsc_offsetting);
    put(field::tsc_offset, tsc_offset);
    cpu.frame.handler = handle_exit_with_demands;
    log::info("L0 takes every interrupt that comes while an L2 runs, and has a TSC offset");
}

nested::Entry give_waiting_interrupts(Cpu& cpu, nested::Entry entry) {
    if (cpu.port.waiting().empty()) return entry;
    static_cast<void>(cpu.vcpu.deliver(cpu.port.waiting(), entry));
    if (!cpu.port.waiting().empty()) set_nmi_state(nmi_state::asked);  // looked at before each entry
    return entry;
}

}  // namespace flatback::metal
