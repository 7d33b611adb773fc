// The VMCS under which L1 runs: all devices and interrupts are its own, and only its memory is not all of it.
#include "host/vmcs01.hpp"

#include "metal/ground/instructions.hpp"
#include "metal/ground/panic.hpp"
#include "metal/l0/cpu.hpp"
#include "nested/vmcs/current_vmcs.hpp"

namespace flatback::metal {

namespace {

host::L1State state_of(const L1Start& start) {
    host::L1State state =
        start.mode == L1Start::Mode::long_mode
            ? host::state_in_long_mode(start.code_selector, start.data_selector, start.rip, start.cr3)
            : host::state_in_protected_mode(start.code_selector, start.data_selector, start.rip);
    state.rsp = start.rsp;
    state.pat = read_msr(x86::msr::ia32_pat);
    state.gdtr = {.base = start.gdt_base, .limit = start.gdt_limit};
    return state;
}

}  // namespace

void set_up_vmcs01(Cpu& cpu, const BootResult& boot) {
    cpu.port.write_host_state();
    nested::CurrentVmcs vmcs{cpu.port};
    const host::Vmcs01Places places{.ept01_pointer = cpu.port.ept01_pointer(),
                                    .msr_bitmap = cpu.port.l0_msr_bitmap(),
                                    .tag = cpu.vcpu.vpid01(),
                                    .io_bitmaps = cpu.port.keeps_ports()};
    const auto done = host::set_up_vmcs01(vmcs, boot.processor.capabilities, places, state_of(boot.l1));
    if (!done) {
        refuse("this processor lacks ", done.error().name, " ", log::hex(done.error().controls),
               "; Flatback needs it");
    }
    cpu.frame.registers.by_number[0] = boot.l1.rax;
    cpu.frame.registers.by_number[3] = boot.l1.rbx;
    cpu.frame.registers.by_number[6] = boot.l1.rsi;
}

}  // namespace flatback::metal
