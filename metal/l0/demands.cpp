#include "metal/l0/demands.hpp"

#include "metal/ground/interrupts.hpp"
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

// L2's exits that L0 has asked for: interrupts alone. It stays with the local APIC, which is L1's, until it
// is known what becomes of it.
nested::Entry take_interrupt(Cpu& cpu) {
    nested::PendingEvents& waiting = cpu.port.waiting();
    if (!waiting.has(nested::EventKind::external_interrupt)) {
        waiting.add(nested::Event::interrupt_to_acknowledge());
    } else if (const auto vector = take_external_interrupt()) {
        waiting.add(nested::Event::interrupt(*vector));  // behind one that could not be given yet
    }
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
    const nested::Demands demands{.external_interrupts = true, .tsc_offset = tsc_offset};
    if (!cpu.vcpu.set_demands(demands)) refuse("this processor cannot do what demands=on asks for");
    put(field::primary_processor_based_vm_execution_controls,
        get(field::primary_processor_based_vm_execution_controls) | vmx::primary::use_tsc_offsetting);
    put(field::tsc_offset, tsc_offset);
    cpu.frame.handler = handle_exit_with_demands;
    log::info("L0 takes every interrupt that comes while an L2 runs, and has a TSC offset");
}

nested::Entry give_waiting_interrupts(Cpu& cpu, nested::Entry entry) {
    nested::PendingEvents& waiting = cpu.port.waiting();
    if (waiting.empty()) return entry;
    static_cast<void>(cpu.vcpu.deliver(waiting, entry));
    const auto in_the_apic = nested::Event::interrupt_to_acknowledge();
    if (waiting.first(nested::EventKind::external_interrupt) == in_the_apic) {
        waiting.remove(in_the_apic);
        if (cpu.vcpu.in_l2()) {
            // It would make L2 exit again and again.
            if (const auto vector = take_external_interrupt()) waiting.add(nested::Event::interrupt(*vector));
        } else {
            // L1 has its exit, and whatever its local APIC has for it the processor gives it.
            cpu.vcpu.close_window();
        }
    }
    if (!waiting.empty()) set_nmi_state(nmi_state::asked);  // looked at before each entry
    return entry;
}

}  // namespace flatback::metal
