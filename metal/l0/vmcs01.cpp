// The VMCS under which L1 runs: all devices and interrupts are its own, and only its memory is not all of it.
#include "host/vmcs01.hpp"

#include "metal/ground/instructions.hpp"
#include "metal/ground/panic.hpp"
#include "metal/ground/vmx_instructions.hpp"
#include "metal/l0/cpu.hpp"
#include "metal/processors/given_processors.hpp"
#include "nested/vmcs/current_vmcs.hpp"
#include "x86/control_registers.hpp"

namespace flatback::metal {

host::L1State state_of_start(const L1Start& start) {
    host::L1State state =
        start.mode == L1Start::Mode::long_mode
            ? host::state_in_long_mode(start.code_selector, start.data_selector, start.rip, start.cr3)
            : host::state_in_protected_mode(start.code_selector, start.data_selector, start.rip);
    state.rsp = start.rsp;
    state.pat = read_msr(x86::msr::ia32_pat);
    state.gdtr = {.base = start.gdt_base, .limit = start.gdt_limit};
    return state;
}

namespace {

void set_up(Cpu& cpu, const BootResult& boot, const host::L1State& start) {
    cpu.port.write_host_state();
    nested::CurrentVmcs vmcs{cpu.port};
    const host::Vmcs01Places places{.ept01_pointer = cpu.port.ept01_pointer(),
                                    .msr_bitmap = cpu.port.l1_msr_bitmap(),
                                    .tag = cpu.vcpu.vpid01(),
                                    .io_bitmaps = cpu.port.keeps_ports(),
                                    .takes_nmis = given_processors().size() > 1};
    const auto done = host::set_up_vmcs01(vmcs, boot.processor.capabilities, places, start);
    if (!done) {
        refuse("this processor lacks ", done.error().name, " ", log::hex(done.error().controls),
               "; Flatback needs it");
    }
}

}  // namespace

void set_up_vmcs01(Cpu& cpu, const BootResult& boot) {
    set_up(cpu, boot, state_of_start(boot.l1));
    cpu.frame.registers.by_number[0] = boot.l1.rax;
    cpu.frame.registers.by_number[3] = boot.l1.rbx;
    cpu.frame.registers.by_number[6] = boot.l1.rsi;
}

// SDM 3A table 10-1, column INIT: what the VMCS does not hold stays as it is but for these.
void set_up_started_vmcs01(Cpu& cpu, std::uint8_t vector) {
    host::L1State state = host::state_at_reset();
    constexpr std::uint64_t cache_control = x86::cr0::cache_disable | x86::cr0::not_write_through;
    state.cr0 = (state.cr0 & ~cache_control) | (read_cr0() & cache_control);
    state.pat = get(vmx::field::guest_ia32_pat);  // INIT leaves it alone
    if (state.pat == 0) state.pat = read_msr(x86::msr::ia32_pat);
    state.segments[host::L1State::cs].selector = static_cast<std::uint16_t>(vector << 8);
    state.segments[host::L1State::cs].base = std::uint64_t{vector} << 12;
    state.rip = 0;
    const std::uint64_t sysenter[] = {get(vmx::field::guest_ia32_sysenter_cs),
                                      get(vmx::field::guest_ia32_sysenter_esp),
                                      get(vmx::field::guest_ia32_sysenter_eip)};
    set_up(cpu, cpu.port.boot(), state);
    put(vmx::field::guest_ia32_sysenter_cs, static_cast<std::uint32_t>(sysenter[0]));
    put(vmx::field::guest_ia32_sysenter_esp, sysenter[1]);
    put(vmx::field::guest_ia32_sysenter_eip, sysenter[2]);
    for (std::uint64_t& each : cpu.frame.registers.by_number) each = 0;
    cpu.frame.registers.by_number[2] = cpuid(x86::cpuid::leaf_features).eax;
    constexpr std::uint64_t dr6 = 0xFFFF0FF0;
    asm volatile(
        "mov %0, %%db0; mov %0, %%db1; mov %0, %%db2; mov %0, %%db3; mov %1, %%db6; mov %0, %%cr2" ::"r"(
            std::uint64_t{0}),
        "r"(dr6));
}

}  // namespace flatback::metal
