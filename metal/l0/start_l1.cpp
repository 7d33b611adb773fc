#include "metal/l0/start_l1.hpp"

#include "metal/ground/instructions.hpp"
#include "metal/ground/log.hpp"
#include "metal/ground/panic.hpp"
#include "metal/ground/vmx_instructions.hpp"
#include "metal/l0/demands.hpp"
#include "metal/processors/given_processors.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"

namespace flatback::metal {

namespace {

void wait_and_start(Cpu& cpu, std::uint64_t cache_control) {
    if (!cpu.vcpu.reset(nested::Reset::init)) panic("INIT while L1 is in VMX operation");
    cpu.port.local_apic().take_init();
    const std::uint8_t vector = wait_for_start();
    cpu.port.close_kept_pages();
    write_cr0(read_cr0() | cache_control);
    set_up_started_vmcs01(cpu, vector);
    cpu.vcpu.l1_msr_changed();
    cpu.vcpu.l1_translations_changed();
}

}  // namespace

void start_first(Cpu& cpu) {
    wait_and_start(cpu, x86::cr0::cache_disable | x86::cr0::not_write_through);
}

void start_again(Cpu& cpu) {
    wait_and_start(cpu, 0);
}

nested::Entry answer_requests(Cpu& cpu, nested::Entry entry) {
    ProcessorLocal& here = this_processor();
    clear_nmi_state(nmi_state::asked);
    if ((here.requests.load() & request::close_kept) != 0) {
        here.requests.fetch_and(~request::close_kept);
        cpu.port.close_kept_pages();
    }
    entry = give_waiting_interrupts(cpu, entry);
    if ((here.requests.load() & request::init) == 0) return entry;
    if (cpu.vcpu.deliver(nested::Event::init(), entry) == nested::Delivery::given) {
        here.requests.fetch_and(~(request::init | request::init_blocked));
        return entry;
    }
    if (cpu.vcpu.in_vmx_operation()) {
        here.requests.fetch_or(request::init_blocked);
        set_nmi_state(nmi_state::asked);  // blocked: looked at before each entry, until VMXOFF or an L2
        return entry;
    }
    if (here.number == 0) {
        // It would begin at the reset vector, in the firmware, which would set up the machine once more.
        refuse(
            "L1 ended with an INIT signal for its first processor, which Flatback does not emulate, at RIP ",
            log::hex(get(vmx::field::guest_rip)));
    }
    start_again(cpu);
    return nested::Entry::vmlaunch;
}

}  // namespace flatback::metal
